"""Parts: where a recording is cut, what is left out, and what an earlier preparation binds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcriber.prepare.cut import OVERLAP, Cut, Cutter
from services.transcriber.prepare.media import FRAME, SAMPLE_RATE, Block
from services.transcriber.prepare.silence import SpeechFinder, Stretch

SHORT = {"shortest": 8.0, "longest": 20.0, "first": 4.0}
"""Lengths for tests: a fifteenth of the real ones, so that a recording of minutes has many parts."""

some = settings(max_examples=60, deadline=None)
sounds = st.lists(st.tuples(st.booleans(), st.integers(1, 900)), min_size=1, max_size=25)
"""(voice or not, frames) in turn: up to 25 stretches of up to 29 s."""
subsets = st.sets(st.integers(0, 40))


class Recorded:
    """A recording of numbered samples, so that any mistake in a range shows in its bytes."""

    def __init__(self, sounds: list[tuple[bool, int]], tail: int = 0) -> None:
        self.speech = [0.9 if voice else 0.02 for voice, count in sounds for _ in range(count)]
        self.samples = len(self.speech) * FRAME - tail
        self.pcm = (np.arange(self.samples) % 32749).astype(np.int16).tobytes()

    def blocks(self, frames: int) -> list[Block]:
        return [
            Block(self.pcm[at * 2 * FRAME : (at + frames) * 2 * FRAME], tuple(self.speech[at : at + frames]))
            for at in range(0, len(self.speech), frames)
        ]

    def stretches(self) -> list[Stretch]:
        finder = SpeechFinder()
        return finder.feed(self.speech) + finder.close(self.samples)

    def cuts(self, frames: int = 156, **options: object) -> list[Cut]:
        cutter = Cutter(**(SHORT | options))  # type: ignore[arg-type]
        return [cut for block in self.blocks(frames) for cut in cutter.feed(block)] + cutter.close()


def ranges(cuts: list[Cut]) -> list[tuple[int, int, int]]:
    return [(cut.start, cut.end, cut.overlap) for cut in cuts]


@some
@given(sounds, st.integers(0, FRAME - 1), st.booleans())
def test_every_bit_of_speech_is_in_a_part(sounds: list[tuple[bool, int]], tail: int, vad: bool) -> None:
    """Each stretch of speech is covered by the parts together, and each part holds exactly the samples of its range."""
    recorded = Recorded(sounds, tail)
    cuts = recorded.cuts(vad=vad)
    covered = np.zeros(recorded.samples, dtype=bool)
    for cut in cuts:
        assert 0 <= cut.start < cut.end <= recorded.samples
        assert cut.pcm == recorded.pcm[2 * cut.start : 2 * cut.end]
        covered[cut.start : cut.end] = True
    for stretch in recorded.stretches():
        assert covered[stretch.voice : stretch.silent].all()
    if not vad:
        assert covered.all()


@some
@given(sounds)
def test_parts_have_their_lengths_and_their_order(sounds: list[tuple[bool, int]]) -> None:
    """No part is longer than asked for; one that is shorter ends in silence or at the end; overlaps are declared."""
    recorded = Recorded(sounds)
    cuts = recorded.cuts()
    for n, cut in enumerate(cuts):
        longest, shortest = (8.0, 4.0) if n == 0 else (20.0, 8.0)
        seconds = (cut.end - cut.start) / SAMPLE_RATE
        assert seconds <= longest
        after = cuts[n + 1].start if n + 1 < len(cuts) else recorded.samples
        if seconds < shortest and n + 1 < len(cuts):
            assert (after - cut.start) / SAMPLE_RATE >= shortest - 0.4
    for before, after in pairwise(cuts):
        assert after.overlap == max(0, before.end - after.start)
        assert after.overlap in (0, OVERLAP)
        assert before.start < after.start
        assert before.end < after.end


@some
@given(sounds)
def test_silence_is_left_out(sounds: list[tuple[bool, int]]) -> None:
    """A part begins and ends with speech (0.4 s of padding at most), and says where in it speech is."""
    recorded = Recorded(sounds)
    for cut in recorded.cuts():
        assert cut.speech[0][0] == cut.start / SAMPLE_RATE
        assert cut.speech[-1][1] == cut.end / SAMPLE_RATE
        for a, b in cut.speech:
            assert a < b
        for (_, b), (c, _) in pairwise(cut.speech):
            assert b <= c


@some
@given(sounds, st.integers(1, 400), st.booleans())
def test_block_sizes_do_not_matter_to_cuts(sounds: list[tuple[bool, int]], frames: int, vad: bool) -> None:
    """The same recording gives the same parts however it arrives."""
    recorded = Recorded(sounds, tail=7)
    assert recorded.cuts(frames, vad=vad) == recorded.cuts(100_000, vad=vad)


@some
@given(sounds, subsets, st.booleans())
def test_going_on_gives_the_same_parts(sounds: list[tuple[bool, int]], kept: set[int], vad: bool) -> None:
    """With any of its parts bound, a preparation with the same lengths gives all its parts again, overlaps too."""
    recorded = Recorded(sounds)
    cuts = recorded.cuts(vad=vad)
    bound = [r for n, r in enumerate(ranges(cuts)) if n in kept]
    assert recorded.cuts(vad=vad, bound=bound) == cuts


@some
@given(sounds, st.integers(0, 12), st.floats(6, 40), st.floats(0.2, 1), st.booleans())
def test_bound_parts_are_binding(
    sounds: list[tuple[bool, int]], kept: int, longest: float, share: float, vad: bool
) -> None:
    """Parts cut with other lengths come out again as they were, and the rest of the speech is cut around them."""
    recorded = Recorded(sounds)
    other = {"longest": longest, "shortest": longest * share, "first": longest * share / 2}
    bound = ranges(recorded.cuts(vad=vad, **other))[:kept]
    cuts = recorded.cuts(vad=vad, bound=bound)
    assert ranges(cuts)[: len(bound)] == bound
    covered = np.zeros(recorded.samples, dtype=bool)
    for cut in cuts:
        assert cut.pcm == recorded.pcm[2 * cut.start : 2 * cut.end]
        covered[cut.start : cut.end] = True
    for stretch in recorded.stretches():
        assert covered[stretch.voice : stretch.silent].all()


def test_a_bound_range_beyond_the_recording_is_filled_with_silence() -> None:
    """Should a decoder give fewer samples than the one before it, a bound range keeps its length."""
    recorded = Recorded([(True, 100)])
    (cut,) = recorded.cuts(bound=[(0, recorded.samples + 100)])
    assert cut.end == recorded.samples + 100
    assert cut.pcm == recorded.pcm + bytes(200)


def test_silence_gives_no_parts() -> None:
    """A recording in which nobody speaks has no parts, and holding it takes no memory."""
    cutter = Cutter()
    block = Block(bytes(2 * 156 * FRAME), (0.01,) * 156)
    assert [cut for _ in range(1000) for cut in cutter.feed(block)] == []
    assert len(cutter._pcm) < 3 * len(block.pcm)
    assert cutter.close() == []
    assert Cutter(vad=False).close() == []


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_the_longest_silence_in_reach_is_cut_at(seed: int) -> None:
    """Between the shortest and the longest length the longest silence wins."""
    random = np.random.default_rng(seed)
    sounds: list[tuple[bool, int]] = []
    for _ in range(40):
        sounds += [(True, int(random.integers(30, 90))), (False, int(random.integers(12, 40)))]
    recorded = Recorded(sounds)
    stretches = recorded.stretches()
    for cut, after in pairwise(recorded.cuts()[1:]):
        reach, earliest = cut.start + 20 * SAMPLE_RATE, cut.start + 8 * SAMPLE_RATE
        silences = {
            a.end: min(b.voice, reach) - a.silent
            for a, b in pairwise(stretches)
            if cut.start < a.silent and a.end <= reach and b.voice >= earliest
        }
        assert silences[cut.end] == max(silences.values())
        assert after.overlap == 0


def test_where_nobody_pauses_the_quietest_moment_is_taken() -> None:
    """A fixed cut lies where the last 15 s are quietest, half of the overlap on both sides."""
    wave = np.random.default_rng(3).normal(0, 8000, 400 * SAMPLE_RATE).clip(-30000, 30000).astype(np.int16)
    wave[290 * SAMPLE_RATE : 290 * SAMPLE_RATE + SAMPLE_RATE // 2] //= 100
    speech = (0.9,) * (wave.size // FRAME)
    cutter = Cutter(first=150, shortest=150, longest=300)
    first, second = [*cutter.feed(Block(wave.tobytes(), speech)), *cutter.close()]
    assert 290 <= (first.end - OVERLAP / 2) / SAMPLE_RATE <= 290.5
    assert (first.end - second.start, second.overlap) == (OVERLAP, OVERLAP)


@pytest.mark.parametrize("lengths", [(0, 120, 300), (60, 50, 300), (60, 400, 300), (1, 2, 5)])
def test_impossible_lengths_are_refused(lengths: tuple[float, float, float]) -> None:
    """Lengths that contradict one another are an error at once."""
    first, shortest, longest = lengths
    with pytest.raises(ValueError, match="lengths of parts"):
        Cutter(first=first, shortest=shortest, longest=longest)
