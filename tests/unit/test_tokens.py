"""Keys as text, and what is kept of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.auth import KEY_PATTERN, fingerprint, new_key, well_formed
from services.keys.tokens import Pepper, Peppers, network_digest, valid_label

PEPPER = "a pepper that is long enough for anybody"
LAST_YEARS = "the pepper of last year, long enough too"


def test_a_new_key_has_the_published_shape() -> None:
    """Every new key matches the pattern given to secret scanners and carries its id in the open."""
    key, key_id = new_key()
    assert re.fullmatch(KEY_PATTERN, key)
    assert key.split("_")[2] == key_id
    assert well_formed(key)


@given(st.integers(0, 54), st.sampled_from("0123456789abcXYZ"))
def test_a_typing_error_is_seen_without_asking_anybody(place: int, char: str) -> None:
    """A key with one character changed is refused by its check digits."""
    key, _ = new_key()
    assert well_formed(key[:place] + char + key[place + 1 :]) == (key[place] == char)


@pytest.mark.parametrize("text", ["", "dsf_live_", "tk_", "tk_short", "dsf_live_" + "0" * 47, "tk_has a space in it"])
def test_what_cannot_be_a_key_is_refused(text: str) -> None:
    """Neither shape is met by half a key."""
    assert not well_formed(text)


def test_a_key_of_the_old_service_is_well_formed() -> None:
    """`tk_…` keys have no check digits and pass by their shape."""
    assert well_formed("tk_6f1d0a2b3c4d5e6f7a8b9c0d")


def test_a_digest_depends_on_the_pepper() -> None:
    """The same key has another digest under another pepper, and is found under the current and the previous one."""
    key = fingerprint(new_key()[0])
    found = Peppers(PEPPER, LAST_YEARS).digests(key)
    assert found == [Pepper.of(PEPPER).digest(key), Pepper.of(LAST_YEARS).digest(key)]
    assert found[0] != found[1]


def test_the_version_of_a_pepper_gives_nothing_of_it_away() -> None:
    """A pepper's version is short, stable, its own, and not a part of the pepper."""
    version = Pepper.of(PEPPER).version
    assert version == Pepper.of(PEPPER).version != Pepper.of(PEPPER + "!").version
    assert len(version) == 8
    assert version not in PEPPER


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("203.0.113.7", "::ffff:203.0.113.7", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::7", "0.0.0.7", False),
        ("nonsense", None, True),
    ],
)
def test_sign_ups_are_counted_by_network(one: str | None, other: str | None, same: bool) -> None:
    """One IPv4 address or one IPv6 /64 is one network, however it is written."""
    pepper = Pepper.of(PEPPER)
    assert (network_digest(pepper, one) == network_digest(pepper, other)) is same


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_not_counted(address: str) -> None:
    """Whoever is on the machine itself has no network to be counted under."""
    assert network_digest(Pepper.of(PEPPER), address) is None


def test_an_address_cannot_be_read_back() -> None:
    """What is kept of an address holds nothing of it and needs the pepper to be made again."""
    kept = network_digest(Pepper.of(PEPPER), "203.0.113.7")
    assert kept is not None
    assert re.fullmatch("[0-9a-f]{64}", kept)
    assert kept != network_digest(Pepper.of("another pepper, also long enough, yes"), "203.0.113.7")


@pytest.mark.parametrize("text", ["a", "Zeynep Öztürk", "x" * 64, "🎙 studio", "a b"])
def test_names_that_people_have(text: str) -> None:
    """1 to 64 printable characters of any script are a name."""
    assert valid_label(text)


@pytest.mark.parametrize("text", [None, "", " ", "x" * 65, "a\nb", "\x00", "a\u202eb", "tab\t"])
def test_names_that_break_a_line(text: str | None) -> None:
    """Nothing, blanks, control and direction characters, and what is too long are no name."""
    assert not valid_label(text)
