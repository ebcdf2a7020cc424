"""What the page on OpenAI's API shows is what happens: its examples are run as they stand."""

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts.errors import ERRORS, Code
from services.ingest.http.openai_answers import KNOWN
from services.ingest.http.openai_form import REFUSED, SpeechForm
from services.ingest.settings import Settings
from tests import media
from tests.docs.pages import DOCS
from tests.doors.caller import Caller

PAGE = (DOCS / "openai.md").read_text()
EXAMPLES = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)[1:]
"""All but the two variables, which the test sets itself."""


@pytest.mark.parametrize(("language", "code"), EXAMPLES, ids=range(len(EXAMPLES)))
async def test_the_examples_run(stack: Stack, tmp_path: Path, language: str, code: str) -> None:
    """Each example runs in a folder with a recording, and prints something."""
    (tmp_path / "talk.wav").write_bytes(media.encode(media.talk(3.0, seed=11), "wav"))
    async with aiohttp.ClientSession() as session:
        me = await Caller(session, stack.http_url).sign_up()
    environ = os.environ | {"OPENAI_BASE_URL": f"{stack.http_url}/v1", "OPENAI_API_KEY": me.key or ""}
    command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert printed.strip()


def test_every_parameter_is_on_the_page() -> None:
    """The table of parameters holds every field of the form, and every one that is refused by itself."""
    named = set(re.findall(r"`([a-z_]+(?:\[\])?)`", PAGE))
    fields = {field.alias or name for name, field in SpeechForm.model_fields.items()}
    assert fields - named == set()
    assert {name for name in REFUSED if name.startswith("known")} - {name.removesuffix("[]") for name in named} == set()


def test_the_codes_on_the_page_are_those_of_the_answers() -> None:
    """The table of errors says under which status and code each is found."""
    rows = {line for line in PAGE.splitlines() if line.startswith("| `")}
    for code, (status, there) in KNOWN.items():
        assert any(f"`{code}`" in row and f"{status} `{there}`" in row for row in rows), code
    assert ERRORS[Code.OPTION_VALUE].status == 422


def test_the_other_names_of_models_are_on_the_page() -> None:
    """The page names every alias that there is unless an operator says otherwise."""
    assert all(f"`{name}`" in PAGE for name in Settings().model_aliases)
