"""Stretches of speech: Silero's rules, as a stream."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcriber.prepare.media import FRAME, SAMPLE_RATE
from services.transcriber.prepare.silence import NEVER, Everything, SpeechFinder, Stretch

PADDING = round(0.4 * SAMPLE_RATE)

some = settings(max_examples=60, deadline=None)
runs = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.36, 0.45, 0.6, 0.99]), st.integers(1, 40)), min_size=0, max_size=30
)


def frames(run: list[tuple[float, int]]) -> list[float]:
    return [value for value, count in run for _ in range(count)]


def found(probabilities: list[float], step: int | None = None) -> list[Stretch]:
    finder = SpeechFinder()
    given: list[Stretch] = []
    step = step or max(1, len(probabilities))
    for at in range(0, len(probabilities), step):
        given += finder.feed(probabilities[at : at + step])
    return given + finder.close(len(probabilities) * FRAME)


def spoken(start: float, end: float, total: float) -> list[float]:
    """Probabilities of a recording with voice between two moments, in seconds."""
    at = np.arange(round(total * SAMPLE_RATE) // FRAME) * FRAME / SAMPLE_RATE
    return [0.9 if start <= t < end else 0.05 for t in at]


@some
@given(runs, st.integers(1, 50))
def test_block_sizes_do_not_matter(run: list[tuple[float, int]], step: int) -> None:
    """The same probabilities give the same stretches however they arrive."""
    probabilities = frames(run)
    assert found(probabilities, step) == found(probabilities)


@some
@given(runs)
def test_stretches_are_in_order_and_inside(run: list[tuple[float, int]]) -> None:
    """Stretches follow one another without overlapping, hold their voice, and lie inside the recording."""
    probabilities = frames(run)
    stretches = found(probabilities)
    for each in stretches:
        assert 0 <= each.start <= each.voice < each.silent <= each.end <= len(probabilities) * FRAME
        assert each.silent - each.voice >= 0.1 * SAMPLE_RATE
        assert each.voice - each.start <= PADDING
        assert each.end - each.silent <= PADDING
    for before, after in pairwise(stretches):
        assert before.end <= after.start
        assert after.voice - before.silent >= 0.3 * SAMPLE_RATE


@some
@given(runs)
def test_what_is_surely_voice_is_found(run: list[tuple[float, int]]) -> None:
    """Every run of certain voice that lasts 0.1 s lies in a stretch; outside of all padding none does."""
    stretches = found(frames(run))
    at = 0
    for value, count in run:
        if value >= 0.5 and count >= 4:
            assert any(s.voice <= at and at + count * FRAME <= s.silent for s in stretches)
        at += count * FRAME


@some
@given(runs)
def test_nothing_changes_after_the_delay(run: list[tuple[float, int]]) -> None:
    """What began before the delay is given or known to run, and what was given is never taken back."""
    probabilities = frames(run)
    final = found(probabilities)
    finder = SpeechFinder()
    known: list[Stretch] = []
    for count, probability in enumerate(probabilities, 1):
        known += finder.feed([probability])
        certain = count * FRAME - finder.delay
        assert known == final[: len(known)]
        unknown = [s for s in final[len(known) :] if s.start < certain]
        assert len(unknown) <= 1
        if unknown:
            assert finder.running == Stretch(unknown[0].start, NEVER, unknown[0].voice, NEVER)
            assert unknown[0].silent > certain


def test_padding_meets_in_the_middle_of_a_short_silence() -> None:
    """Two phrases 0.5 s apart touch in the middle of the silence; phrases 2 s apart keep 0.4 s each."""
    close = found(spoken(1, 2, 3.0) + spoken(0, 0, 0.0) + spoken(0, 1, 2.0))  # voice 1-2 s and 3-4 s: 1 s apart
    assert [round((s.end - s.silent) / SAMPLE_RATE, 2) for s in close] == [0.4, 0.4]
    near = found(spoken(1, 2, 2.5) + spoken(0, 1, 2.0))
    assert near[0].end == near[1].start == (near[0].silent + near[1].voice) // 2


def test_a_short_dip_and_a_short_blip_count_for_nothing() -> None:
    """A dip of 0.2 s does not end speech, and 64 ms of voice do not begin it."""
    dip = found([0.9] * 30 + [0.1] * 6 + [0.9] * 30)
    assert len(dip) == 1
    assert found([0.1] * 30 + [0.9] * 2 + [0.1] * 30) == []


def test_voice_to_the_last_sample_ends_with_the_recording() -> None:
    """Speech that the end of the recording cuts short ends there, also in the middle of a frame."""
    finder = SpeechFinder()
    finder.feed([0.9] * 20)
    (only,) = finder.close(20 * FRAME - 100)
    assert (only.start, only.end) == (0, 20 * FRAME - 100)


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0])
def test_nonsense_does_no_harm(nonsense: float) -> None:
    """Values that are no probabilities are taken for what they compare as."""
    assert all(s.end <= 100 * FRAME for s in found([nonsense] * 100))


def test_without_voice_activity_all_is_speech() -> None:
    """The finder for `vad=false` gives one stretch that runs until the end."""
    finder = Everything()
    assert finder.feed([0.0] * 10) == []
    assert finder.running is not None
    assert finder.close(5000) == [Stretch(0, 5000, 0, 5000)]
    assert Everything().close(0) == []
