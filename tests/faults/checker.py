"""What must be true of a job that has ended, whatever was done to the service meanwhile.

The digest engine answers each window with the sum of the very samples it heard, so a transcript can be held against
the recording: nothing lost, nothing swapped, nothing heard twice. The functions are pure and raise AssertionError.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Outcome, State
from services.contracts.transcript import Transcript
from tests.media import RATE, Samples

Event = Record | SegmentsEvent
Flags = NDArray[np.bool_]

FRAME = RATE // 50
"""Samples that are judged together."""

SHARED = round(1.5 * RATE)
"""Samples that two parts may share where there is no silence to cut at (docs/media.md)."""
UNHEARD = round(1.25 * RATE)
"""The longest stretch of the recordings of these tests that Silero does not take for a voice; no phrase is so short."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of a job: `stored` are its objects below its prefix, `events` those of RESULTS in order."""

    record: Record
    outcome: Outcome
    transcript: bytes | None
    stored: frozenset[str]
    events: tuple[Event, ...]


def event_of(subject: str, data: bytes) -> Event:
    """An event of RESULTS."""
    model = SegmentsEvent if subject.endswith(".segments") else Record
    return model.model_validate_json(data)


def check_completed(
    evidence: Evidence, samples: Samples, like: bytes | None = None, *, all_events: bool = True
) -> None:
    """The job completed and all of it is right.

    `like` is the transcript of an unfaulted run of the same recording. Without `all_events` the bus may have lost the
    words that it told of.
    """
    assert evidence.outcome.state == State.COMPLETED, evidence.outcome.failure
    check_ended(evidence)
    assert evidence.transcript is not None, "there is no transcript"
    assert evidence.outcome.sha256 == hashlib.sha256(evidence.transcript).hexdigest(), "the outcome vouches for others"
    if like is not None:
        assert anonymous(evidence.transcript) == anonymous(like), "the bytes differ from the unfaulted run's"
    check_heard(evidence.transcript, samples)
    record = evidence.record
    assert record.complete, "not every part is done"
    assert evidence.stored == expected_objects(record.parts), "objects are missing, or were left"
    if all_events:
        check_events(evidence)


def check_ended(evidence: Evidence) -> None:
    """Record, outcome and the last state event agree on the end, and nothing followed it."""
    record, outcome = evidence.record, evidence.outcome
    assert record.state == outcome.state, "record and outcome differ"
    assert record.state.terminal
    assert (record.sha256, record.failure) == (outcome.sha256, outcome.failure), "record and outcome differ"
    states = [event for event in evidence.events if isinstance(event, Record)]
    assert states, "no event tells of it"
    assert states[-1] == record, "the last event is not the record"
    # Erasure alone may follow an end.
    ends = [event for event in states if event.state.terminal and event.state != State.ERASED]
    # A record that was lost with the bus and is made again from the objects knows less of what led to the end.
    ways = [(event.state, event.sha256, event.failure, event.seconds) for event in ends]
    assert all(way == ways[0] for way in ways), "it ended in more than one way"
    if ends:
        after = states[states.index(ends[0]) :]
        assert all(event.state in (ends[0].state, State.ERASED) for event in after), "it came back to life"
    assert not any(name.endswith(".pcm") for name in evidence.stored), "samples were left"


def check_heard(transcript: bytes, samples: Samples) -> None:
    """Every word is the sum of the samples it names, in order, no sample twice, and all that sounds is in one."""
    found = Transcript.model_validate_json(transcript)
    heard = np.zeros(samples.size, dtype=np.int8)
    last = 0
    for word in found.words:
        place, _, said = word.word.strip().partition(":")
        first, end = (int(number) for number in place.split("-"))
        end += 1
        assert said == hashlib.sha256(samples[first:end].tobytes()).hexdigest()[:16], "it heard something else"
        assert abs(word.start - first / RATE) < 0.001, "a word is not where it was heard"
        assert abs(word.end - end / RATE) < 0.001, "a word is not where it was heard"
        assert first >= last - SHARED, "samples were heard twice, or out of order"
        heard[first:end] += 1
        last = end
    assert (heard == 2).sum() <= SHARED * (len(found.words) - 1), "samples were heard twice"
    passed_over = longest_run(frames(samples != 0) & ~frames(heard > 0)) * FRAME
    assert passed_over <= UNHEARD, f"something was not heard: {passed_over / RATE} s"
    check_coverage(found, samples.size / RATE, [(word.start, word.end) for word in found.words])


def check_coverage(transcript: Transcript, seconds: float, words: Iterable[tuple[float, float]]) -> None:
    """Every second of the recording is accounted for, and the account is that of the words."""
    coverage = transcript.coverage
    assert abs(coverage.decoded - seconds) <= 0.05
    assert abs(transcript.duration - seconds) <= 0.05
    assert abs(coverage.transcribed + coverage.non_speech.seconds + coverage.failed.seconds - seconds) <= 0.05
    joined: list[list[float]] = []
    for start, end in sorted(words):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    assert abs(sum(end - start for start, end in joined) - coverage.transcribed) <= 0.05


def check_events(evidence: Evidence) -> None:
    """The words of each part were told before the end, all repeats alike, and together they are the transcript's."""
    first_end = next(i for i, event in enumerate(evidence.events) if isinstance(event, Record) and event.state.terminal)
    told: dict[int, SegmentsEvent] = {}
    for at, event in enumerate(evidence.events):
        if isinstance(event, SegmentsEvent):
            assert at < first_end or event.part in told, "words came after the end"
            assert told.setdefault(event.part, event) == event, "a part's words were told differently"
    assert sorted(told) == list(range(evidence.record.parts)), "the words of a part were never told"
    transcript = Transcript.model_validate_json(evidence.transcript or b"")
    words = Counter(word.word for event in told.values() for segment in event.segments for word in segment.words)
    assert words == Counter(word.word for word in transcript.words), "the events' words are not the transcript's"


def expected_objects(parts: int) -> frozenset[str]:
    """What a completed job leaves in the store."""
    numbers = [f"{n:05d}.json" for n in range(parts)]
    whole = ("source", "job.json", "peaks.u8", "plan.json", "transcript.json", "outcome.json")
    return frozenset([*whole, *(f"parts/{n}" for n in numbers), *(f"words/{n}" for n in numbers)])


def anonymous(transcript: bytes) -> bytes:
    """A transcript's bytes without its job's id."""
    return transcript.replace(json.loads(transcript)["job"].encode(), b"JOB")


def frames(flags: Flags) -> Flags:
    """For each frame whether any of its samples is flagged: sound crosses zero all the time without being silent."""
    whole = flags.size // FRAME * FRAME
    found: Flags = flags[:whole].reshape(-1, FRAME).any(axis=1)
    return found


def longest_run(flags: Flags) -> int:
    """Length of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))
