"""The page on callbacks does what it says."""

import base64
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from services.contracts.callbacks import Told
from services.ingest.callbacks import signature
from services.ingest.settings import Settings
from tests.docs.pages import DOCS

PAGE = (DOCS / "callbacks.md").read_text()
SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()


@pytest.fixture(scope="module")
def verify() -> Callable[[str, dict[str, str], bytes], None]:
    """The receiver's side as the page shows it, run as it stands there."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/callbacks.md", "exec"), names)  # noqa: S102 - the page is ours
    found: Callable[[str, dict[str, str], bytes], None] = names["verify"]
    return found


def test_the_example_takes_what_we_send(verify: Callable[[str, dict[str, str], bytes], None]) -> None:
    """A call of ours is verified by the lines on the page, also while two secrets sign."""
    other = "whsec_" + base64.b64encode(b"y" * 32).decode()
    verify(SECRET, signature.headers((other, SECRET), "job_1_completed", int(time.time()), b"{}"), b"{}")


def test_the_example_refuses_everything_else(verify: Callable[[str, dict[str, str], bytes], None]) -> None:
    """A changed body, another secret and an old call are refused."""
    now = int(time.time())
    headers = signature.headers((SECRET,), "job_1_completed", now, b"{}")
    old = signature.headers((SECRET,), "job_1_completed", now - 301, b"{}")
    for secret, shown, body in [
        (SECRET, headers, b"{} "),
        ("whsec_" + base64.b64encode(b"y" * 32).decode(), headers, b"{}"),
        (SECRET, old, b"{}"),
    ]:
        with pytest.raises(PermissionError):
            verify(secret, shown, body)


def test_the_example_is_ten_lines() -> None:
    """It stays as short as it says."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_the_schedule_and_the_states_are_the_codes() -> None:
    """The waits on the page are the defaults, and every state is explained."""
    waits = re.search(r"again after (.*?),\neach", PAGE, re.DOTALL)
    assert waits is not None
    unit = {"s": 1, "min": 60, "h": 3600}
    told = [int(n) * unit[name] for n, name in re.findall(r"(\d+) (s|min|h)", waits[1])]
    assert tuple(told) == Settings.model_fields["callback_retries"].default
    for state in Told:
        assert f"| `{state}` |" in PAGE


@pytest.mark.parametrize(
    "word",
    ["timeout", "unknown_host", "no_connection", "tls", "no_answer", "address_refused", "url_refused", "no_secret"],
)
def test_every_error_is_explained(word: str) -> None:
    """The words that a log may hold are on the page, and the code says no others."""
    assert f"`{word}`" in PAGE
    sources = "".join(path.read_text() for path in (DOCS.parent / "services/ingest/callbacks").glob("*.py"))
    said = set(re.findall(r'error="(\w+)"', sources)) | set(re.findall(r'"(address_refused|no_connection)"', sources))
    assert word in said
    assert all(f"`{other}`" in PAGE for other in said)
