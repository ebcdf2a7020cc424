"""What was just cut is at hand once, and never more of it than there is room for."""

from services.contracts.parts import Part
from services.transcriber.fresh import LARGEST, MOST, Fresh


def part(n: int) -> Part:
    """A part of no matter what."""
    return Part(n=n, start=0, end=16_000, sha256="", speech=())


def test_a_part_is_at_hand_once() -> None:
    """What was kept can be taken once, by its job and number, and is then gone."""
    fresh = Fresh()
    fresh.keep("a", part(0), b"zero")
    fresh.keep("b", part(0), b"other")
    assert fresh.take("a", 0) == (part(0), b"zero")
    assert fresh.take("a", 0) is None
    assert fresh.take("b", 0) == (part(0), b"other")


def test_the_oldest_make_room() -> None:
    """No more than so many bytes are kept: the oldest parts go, and a long one is not kept at all."""
    fresh = Fresh()
    fresh.keep("long", part(0), bytes(LARGEST + 2))
    assert fresh.take("long", 0) is None
    room = MOST // LARGEST
    for n in range(room + 1):
        fresh.keep("job", part(n), bytes(LARGEST))
    assert fresh.take("job", 0) is None
    assert all(fresh.take("job", n) is not None for n in range(1, room + 1))
