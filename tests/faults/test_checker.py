"""The checker of these suites, proved: it accepts a whole job and sees everything that is wrong with a damaged one."""

import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Door, Lane, Outcome, State, Timings
from services.contracts.transcript import Coverage, Ranges, Segment, Transcript, Word
from tests.faults.checker import Evidence, check_completed, expected_objects
from tests.media import RATE, Samples, noise

PART = 5
"""Seconds of a part, and of its one window."""
PARTS = 4
Damage = Callable[[Evidence], Evidence]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Sound without any silence."""
    return noise(PART * PARTS)


@pytest.fixture(scope="module")
def whole(samples: Samples) -> Evidence:
    """What a job leaves that nothing disturbed."""
    segments = tuple(segment(samples, n * PART, (n + 1) * PART) for n in range(PARTS))
    end = PART * PARTS
    nothing = Ranges(seconds=0)
    transcript = Transcript(
        job="job_1",
        model="base",
        task="transcribe",
        language="en",
        duration=end,
        text="",
        segments=segments,
        coverage=Coverage(decoded=end, transcribed=end, non_speech=nothing, failed=nothing, suspect=nothing),
    )
    begun = Record(
        job="job_1",
        tenant="tenant",
        key_id="",
        door=Door.HTTP,
        lane=Lane.INTERACTIVE,
        model="base",
        state=State.RUNNING,
        parts=PARTS,
        sealed=True,
        timings=Timings(accepted=1),
    )
    told = [
        SegmentsEvent(job="job_1", part=n, start=n * PART, end=(n + 1) * PART, segments=(one,))
        for n, one in enumerate(segments)
    ]
    return ended(
        Evidence(
            begun, Outcome(job="job_1", state=State.COMPLETED, timings=begun.timings), None, frozenset(), (begun, *told)
        ),
        transcript,
    )


def segment(samples: Samples, start: int, end: int) -> Segment:
    """What the digest engine hears there."""
    first, last = start * RATE, end * RATE
    said = f" {first}-{last - 1}:{hashlib.sha256(samples[first:last].tobytes()).hexdigest()[:16]}"
    return Segment(start=start, end=end, text=said, words=(Word(word=said, start=start, end=end, probability=1),))


def ended(evidence: Evidence, transcript: Transcript) -> Evidence:
    """The evidence with this transcript, and with an outcome, a record and a last event that vouch for it."""
    data = transcript.encode()
    sum_ = {"sha256": hashlib.sha256(data).hexdigest()}
    end = {"state": State.COMPLETED, "done": format((1 << PARTS) - 1, "x"), **sum_}
    record = evidence.record.model_copy(update=end)
    told = tuple(event for event in evidence.events if not (isinstance(event, Record) and event.state.terminal))
    return Evidence(record, evidence.outcome.model_copy(update=sum_), data, expected_objects(PARTS), (*told, record))


def words_changed(change: Callable[[list[Segment]], list[Segment]]) -> Damage:
    """Damage to the transcript alone, for which everything else vouches."""

    def damage(whole: Evidence) -> Evidence:
        transcript = Transcript.model_validate_json(whole.transcript or b"")
        changed = tuple(change(list(transcript.segments)))
        told = [
            event.model_copy(update={"segments": tuple(one for one in changed if one.start == event.start)})
            if isinstance(event, SegmentsEvent)
            else event
            for event in whole.events
        ]
        return ended(
            dataclasses.replace(whole, events=tuple(told)), transcript.model_copy(update={"segments": changed})
        )

    return damage


def swapped(segments: list[Segment]) -> list[Segment]:
    """Two parts' words changed places, each with the other's times."""
    a, b = segments[1], segments[2]
    return [segments[0], said_at(b, a), said_at(a, b), segments[3]]


def said_at(what: Segment, where: Segment) -> Segment:
    word = what.words[0].model_copy(update={"start": where.start, "end": where.end})
    return what.model_copy(update={"start": where.start, "end": where.end, "words": (word,)})


def record_as(**update: object) -> Damage:
    """A record that differs from its outcome and its last event."""
    return lambda whole: dataclasses.replace(whole, record=whole.record.model_copy(update=update))


def events_as(change: Callable[[list[Record | SegmentsEvent]], list[Record | SegmentsEvent]]) -> Damage:
    """Other events."""
    return lambda whole: dataclasses.replace(whole, events=tuple(change(list(whole.events))))


def stored_as(change: Callable[[set[str]], set[str]]) -> Damage:
    """Other objects."""
    return lambda whole: dataclasses.replace(whole, stored=frozenset(change(set(whole.stored))))


def unset(whole: Evidence) -> Evidence:
    record = whole.record.model_copy(update={"done": "7"})
    return dataclasses.replace(whole, record=record, events=(*whole.events[:-1], record))


def revived(events: list[Record | SegmentsEvent]) -> list[Record | SegmentsEvent]:
    return [*events, events[0], events[-1]]


def told_otherwise(events: list[Record | SegmentsEvent]) -> list[Record | SegmentsEvent]:
    return [*events[:3], events[2].model_copy(update={"segments": ()}), *events[3:]]


def ended_twice(events: list[Record | SegmentsEvent]) -> list[Record | SegmentsEvent]:
    return [*events[:-1], events[-1].model_copy(update={"state": State.CANCELLED}), events[-1]]


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a loss": (words_changed(lambda found: found[:2] + found[3:]), "not heard"),
    "a loss at the end": (words_changed(lambda found: found[:-1]), "not heard"),
    "a duplicate": (words_changed(lambda found: [*found[:2], found[1], *found[2:]]), "twice"),
    "a swap": (words_changed(swapped), "not where it was heard"),
    "the wrong order": (words_changed(lambda found: found[::-1]), "out of order"),
    "other samples": (
        words_changed(lambda found: [*found[:3], segment(noise(PART * PARTS, seed=2), 3 * PART, 4 * PART)]),
        "something else",
    ),
    "a transcript that nobody vouches for": (
        lambda whole: dataclasses.replace(whole, transcript=(whole.transcript or b"") + b" "),
        "vouches for others",
    ),
    "a record that is behind": (record_as(state=State.RUNNING), "record and outcome differ"),
    "a record that says otherwise": (record_as(sha256="0"), "record and outcome differ"),
    "a bit that is not set": (unset, "not every part"),
    "an end in two ways": (events_as(ended_twice), "more than one way"),
    "a job that came back to life": (events_as(revived), "back to life"),
    "words that were never told": (events_as(lambda events: [*events[:1], *events[2:]]), "never told"),
    "words told after the end": (events_as(lambda events: [*events[:1], *events[2:], events[1]]), "after the end"),
    "words told in two ways": (events_as(told_otherwise), "differently"),
    "an end that was not told": (events_as(lambda events: events[:-1]), "last event"),
    "samples that were left": (stored_as(lambda names: names | {"parts/00000-0-80000.pcm"}), "left"),
    "words of a part that is none": (stored_as(lambda names: names | {"words/00004.json"}), "left"),
    "a source that is gone": (stored_as(lambda names: names - {"source"}), "missing"),
}


def test_a_whole_job_is_accepted(whole: Evidence, samples: Samples) -> None:
    """What nothing disturbed passes, also held against itself."""
    check_completed(whole, samples, whole.transcript)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_seen(whole: Evidence, samples: Samples, damage: str) -> None:
    """Each kind of damage fails, and for its own reason."""
    harm, reason = DAMAGES[damage]
    with pytest.raises(AssertionError, match=reason):
        check_completed(harm(whole), samples)


def test_other_bytes_than_the_unfaulted_run_are_seen(whole: Evidence, samples: Samples) -> None:
    """A transcript that is right in itself, but not the one that it should be, fails."""
    other = (whole.transcript or b"").replace(b'"en"', b'"tr"')
    with pytest.raises(AssertionError, match="differ from the unfaulted"):
        check_completed(whole, samples, other)
