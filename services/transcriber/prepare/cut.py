"""A recording, as it is being decoded, to parts: cut at silences, every bit of speech inside one of them.

Where a cut lies depends on the recording and the lengths asked for alone, never on how the samples arrived. Ranges
that an earlier preparation has cut are binding: they come out again as they are, and cuts are made only between them.
"""

import copy
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Self

from services.transcriber.prepare.media import FRAME, SAMPLE_RATE, Block
from services.transcriber.prepare.silence import NEVER, Everything, Finder, SpeechFinder, Stretch

OVERLAP = round(1.5 * SAMPLE_RATE)  # what two parts share where there is no silence to cut at
SEARCH = 15 * SAMPLE_RATE  # the end of such a part, where the quietest moment is looked for
QUIET = 10  # frames: about a third of a second, in which the loudness is compared


@dataclass(frozen=True, slots=True)
class Cut:
    """A part: samples `start` to `end` of the recording. `speech` are seconds in the recording."""

    start: int
    end: int
    pcm: bytes
    """Exactly that range, s16le."""
    speech: tuple[tuple[float, float], ...]
    overlap: int = 0
    """Samples at the beginning that the cut before holds too."""
    channels: tuple[int, ...] = (0,)
    """Of the recording, where they are cut apart; all of them hold the same samples."""


@dataclass(frozen=True, slots=True)
class _Bound:
    start: int
    end: int
    overlap: int = 0


class Cutter:
    """Takes blocks, gives cuts as soon as they are certain; holds little more than the longest part.

    Lengths in seconds: parts of `shortest` to `longest`, the first one from `first` to twice that, so that words come
    early. A part is shorter only where silence follows or the recording or a bound range ends it. Of the silences in
    reach the longest is cut at, and left out. Without `vad` all is speech, and parts are cut with an overlap at the
    quietest moment near `longest`, as they are where nobody pauses.

    `bound` are (start, end) or (start, end, overlap) in samples, in order.
    """

    def __init__(
        self,
        *,
        shortest: float = 120.0,
        longest: float = 300.0,
        first: float = 60.0,
        vad: bool = True,
        bound: Sequence[tuple[int, ...]] = (),
    ) -> None:
        if not 0 < first <= shortest <= longest or longest * SAMPLE_RATE < 4 * OVERLAP:
            raise ValueError("lengths of parts must be 0 < first <= shortest <= longest, and longest at least 6 s")
        self._usual = (round(shortest * SAMPLE_RATE), round(longest * SAMPLE_RATE))
        self._opening = (round(first * SAMPLE_RATE), round(min(max(2 * first, 6.0), longest) * SAMPLE_RATE))
        self._bound = deque(_Bound(*each) for each in bound)
        self._finder: Finder = SpeechFinder() if vad else Everything()
        self._stretches: list[Stretch] = []  # certain, and not yet all inside cuts
        self._pcm = bytearray()
        self._base = 0  # the sample that _pcm begins with
        self._heard = 0  # samples
        self._from = 0  # where the next cut may begin
        self._last_end: int | None = None  # where the last cut ended

    def feed(self, block: Block) -> list[Cut]:
        """The cuts that have become certain with this block."""
        self._pcm += block.pcm
        self._heard += len(block.pcm) // 2
        self._stretches += self._finder.feed(block.speech)
        return self._make_cuts(self._heard // FRAME * FRAME - self._finder.delay)

    def close(self) -> list[Cut]:
        """The rest, at the end of the recording."""
        self._stretches += self._finder.close(self._heard)
        return self._make_cuts(NEVER)

    @property
    def heard(self) -> int:
        """Samples so far."""
        return self._heard

    def fork(self) -> Self:
        """One that has heard and cut the same so far, and goes on by itself."""
        return copy.deepcopy(self)

    def _make_cuts(self, certain: int) -> list[Cut]:
        cuts: list[Cut] = []
        while (cut := self._next(certain)) is not None:
            cuts.append(cut)
        speech = self._speech(NEVER)
        self._forget(max(speech[0].start, self._from) if speech else certain)
        return cuts

    def _next(self, certain: int) -> Cut | None:
        """The next cut, if it can be made with what is certain: everything before that sample."""
        bound = self._bound[0] if self._bound else None
        limit = bound.start + bound.overlap if bound else NEVER
        if bound and self._last_end is not None and bound.start <= self._last_end:
            limit = self._from  # it follows the last cut at once
        speech = self._speech(limit)
        if not speech:
            if bound and certain >= bound.end:
                self._bound.popleft()
                return self._cut(bound.start, bound.end, bound.overlap)
            return None
        start = max(speech[0].start, self._from)
        shortest, longest = self._opening if self._last_end is None else self._usual
        reach = start + longest
        if certain < reach:
            return None
        # Decided as if nothing were bound: a hole in what an earlier preparation left is so filled as it was.
        end = self._end(self._speech(NEVER), start + shortest, reach, certain)
        if end <= limit:
            return self._cut(start, end)
        cut = self._cut(start, min(speech[-1].end, limit))
        self._from = limit
        return cut

    def _end(self, speech: Sequence[Stretch], earliest: int, reach: int, certain: int) -> int:
        """Where the part ends that begins with `speech`."""
        if certain == NEVER and speech[-1].end <= reach:
            return speech[-1].end
        end = silence_between(speech, earliest, reach)
        return self._quiet_end(earliest, reach) if end is None else end

    def _speech(self, limit: int) -> list[Stretch]:
        """The stretches whose voice is heard between the last cut and `limit`; the last one may still run."""
        running = self._finder.running
        known = [*self._stretches, running] if running else self._stretches
        return [s for s in known if min(s.silent, limit) > max(s.voice, self._from)]

    def _cut(self, start: int, end: int, overlap: int = 0) -> Cut:
        at = 2 * (start - self._base)
        pcm = bytes(memoryview(self._pcm)[at : at + 2 * (end - start)]).ljust(2 * (end - start), b"\0")
        known = [*self._stretches, *filter(None, [self._finder.running])]
        inside = ((max(s.start, start), min(s.end, end)) for s in known)
        speech = tuple((a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in inside if a < b)
        if self._last_end is not None:
            overlap = max(overlap, self._last_end - start)
        goes_on = any(s.voice < end < s.silent for s in known)
        self._from = end - OVERLAP if goes_on else end
        self._last_end = end
        self._forget(self._from)
        return Cut(start, end, pcm, speech, overlap)

    def _quiet_end(self, earliest: int, reach: int) -> int:
        """Where a cut in the middle of speech ends: the quietest moment in reach and half of the overlap more."""
        latest = reach - OVERLAP // 2
        earliest = min(max(earliest, reach - SEARCH), reach - OVERLAP)
        around = 2 * (earliest - self._base), 2 * (latest + QUIET * FRAME // 2 - self._base)
        return earliest + quietest(bytes(self._pcm[slice(*around)])) + OVERLAP // 2

    def _forget(self, before: int) -> None:
        """Lets go of the samples that no cut can need any more."""
        before = min(before, self._heard, *(bound.start for bound in self._bound))
        if before > self._base:
            del self._pcm[: 2 * (before - self._base)]
            self._base = before
        self._stretches = [s for s in self._stretches if s.end > before]


def silence_between(speech: Sequence[Stretch], earliest: int, reach: int) -> int | None:
    """Where the speech before the longest silence ends that lasts beyond `earliest` and begins before `reach`."""
    longest, end = 0, None
    for this, after in zip_longest(speech, speech[1:]):
        resumes = min(after.voice if after else NEVER, reach)
        if this.end > reach:
            break
        if resumes >= earliest and resumes - this.silent > longest:
            longest, end = resumes - this.silent, this.end
    return end


def quietest(pcm: bytes) -> int:
    """The middle of the quietest third of a second, in samples from the beginning of `pcm` (s16le)."""
    samples = array("h")
    samples.frombytes(pcm)
    levels = [sum(map(abs, samples[at : at + FRAME : 4])) for at in range(0, len(samples), FRAME)]
    sums = [sum(levels[at : at + QUIET]) for at in range(max(1, len(levels) - QUIET))]
    return (sums.index(min(sums)) + QUIET // 2) * FRAME
