"""What waits for a slow reader is bounded, and what is sent of an event is the message of the contracts."""

import pytest

from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Door, Lane, State, Timings
from services.contracts.stream import Cursor, Event, Kind, epoch_of
from services.contracts.transcript import Segment
from services.ingest.follow import Backlog, Follower, Heard


def event(sequence: int, size: int = 10) -> Heard:
    """An event of so many bytes."""
    return Heard("t", "j", Kind.SEGMENTS, Cursor("1", sequence), b"x" * size)


async def test_the_room_is_for_all_watches_of_a_client() -> None:
    """Two watches share one backlog: what the one leaves waiting the other cannot have, until it is taken."""
    backlog = Backlog(25)
    one, other = Follower(backlog), Follower(backlog)
    one.catch_up()
    other.catch_up()
    one.hear(event(1))
    one.hear(event(2))
    other.hear(event(3))
    assert (one.behind, other.behind, other.overflowed) == (False, True, True)
    assert (await one.next(None), await one.next(None)) == (event(1), event(2))
    other.catch_up()
    other.hear(event(4, size=1000))  # one of any size always fits
    assert await other.next(None) == event(4, size=1000)
    assert not other.behind


async def test_who_is_behind_keeps_nothing() -> None:
    """Who fell behind gives its room back, and takes nothing until it begins to catch up."""
    backlog = Backlog(25)
    follower = Follower(backlog)
    follower.catch_up()
    follower.hear(event(1, size=25))
    follower.lag()
    assert backlog.take(25)
    follower.hear(event(2))
    assert await follower.next(None) is None
    assert (follower.behind, follower.overflowed) == (True, False)


async def test_a_wait_ends() -> None:
    """A wait for an event is over after its time."""
    follower = Follower(Backlog(1))
    follower.catch_up()
    assert await follower.next(0.01) is None


def test_an_event_is_sent_as_the_contracts_say() -> None:
    """State and words are messages of the type `event`; the state shows no key's id and no counters of ours."""
    segments = (Segment(start=0, end=1, text='he said "no"'),)
    words = SegmentsEvent(job="job_1", part=3, start=0, end=1, segments=segments)
    told = Event.model_validate_json(Heard("t", "job_1", Kind.SEGMENTS, Cursor("12", 7), words.encode()).text)
    assert (told.type, told.job_id, told.cursor, told.kind) == ("event", "job_1", "12-7", Kind.SEGMENTS)
    assert SegmentsEvent.model_validate(told.data) == words
    record = Record(
        job="job_1",
        tenant="tenant",
        key_id="secret_id",
        door=Door.HTTP,
        lane=Lane.BATCH,
        model="base",
        state=State.RUNNING,
        timings=Timings(accepted=1),
    )
    text = Heard("tenant", "job_1", Kind.STATE, Cursor("12", 8), record.encode()).text
    assert Event.model_validate_json(text).data["state"] == "running"
    assert "secret_id" not in text
    assert "counters" not in text


def test_cursors() -> None:
    """A cursor is read as it was written; what is none is refused; two streams have two epochs."""
    assert Cursor.parse(str(Cursor("2026", 5))) == Cursor("2026", 5)
    for wrong in ("", "5", "-5", "a-5", "1-2-3", "1-" + "9" * 19, "1-5\n", "١-٥"):
        with pytest.raises(ValueError, match="not a cursor"):
            Cursor.parse(wrong)
    assert epoch_of("2026-11-23T08:20:34.1Z") != epoch_of("2026-11-23T08:20:34.12Z")
