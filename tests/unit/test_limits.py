"""Limits of the door that need no server: places for uploads, and addresses behind proxies."""

from contextlib import ExitStack

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import ValidationError

from services.contracts.errors import Code, Problem
from services.ingest.limits import Bodies, address_of
from services.ingest.settings import Settings


def test_one_tenant_takes_a_quarter_of_the_places() -> None:
    """A tenant's uploads never keep another's out; all of them together are bounded; a place that is free is free."""
    bodies = Bodies(Settings(max_uploads=8))
    with ExitStack() as held:
        for tenant in ("a", "a", "b", "b", "c", "c", "d"):
            held.enter_context(bodies.one(tenant))
        with pytest.raises(Problem) as caught, bodies.one("a"):
            pass
        assert caught.value.code == Code.RATE_LIMIT
        held.enter_context(bodies.one("d"))
        with pytest.raises(Problem), bodies.one("e"):
            pass
    with bodies.one("e"):
        pass


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "192.0.2.1, 198.51.100.1, 10.0.0.5", "198.51.100.1"),
    ],
)
def test_addresses_are_believed_from_proxies_alone(peer: str, forwarded: str | None, address: str) -> None:
    """The client is the last hop that no proxy of ours is; a stranger's header is not believed."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert address_of(request, ("10.0.0.5",)) == address


def test_the_default_language_must_be_one() -> None:
    """A wrong default language is said at the start and not by every job; a name does as well as a code."""
    assert Settings(default_language="Turkish").default_language == "tr"
    assert Settings(default_language="").default_language is None
    with pytest.raises(ValidationError):
        Settings(default_language="klingon")
