"""Small objects that were just written are at hand once, and never more of them than there is room for."""

from services.transcriber.recent import LARGEST, MOST, Recent


def test_an_object_is_at_hand_once() -> None:
    """What was kept can be taken once, by its key, and is then gone; keeping it again replaces it."""
    recent = Recent()
    recent.keep("a", b"before")
    recent.keep("a", b"one")
    recent.keep("b", b"two")
    assert recent.take("a") == b"one"
    assert recent.take("a") is None
    assert recent.take("b") == b"two"


def test_the_oldest_make_room() -> None:
    """No more than so many bytes are kept: the oldest go, and a large object is not kept at all."""
    recent = Recent()
    recent.keep("large", bytes(LARGEST + 1))
    assert recent.take("large") is None
    room = MOST // LARGEST
    for n in range(room + 1):
        recent.keep(str(n), bytes(LARGEST))
    assert recent.take("0") is None
    assert all(recent.take(str(n)) is not None for n in range(1, room + 1))
