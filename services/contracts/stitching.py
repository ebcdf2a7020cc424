"""The parts' words in one row: for the transcript, and for whoever reads the parts while the rest is still to come."""

from collections.abc import Sequence

from services.contracts.parts import PartWords
from services.contracts.transcript import Segment


def stitch(parts: Sequence[PartWords]) -> tuple[Segment, ...]:
    """The parts' segments in order; where two parts hold the same stretch, each word is taken from one of them.

    Parts overlap only where no silence was found to cut at. The seam lies in the middle of the shared stretch, where
    each part's words have the most context on both sides.
    """
    segments: list[Segment] = []
    for part in parts:
        for segment in part.segments:
            last = segments[-1].end if segments else 0.0
            if segment.start >= last:
                segments.append(segment)
            else:
                seam = (segment.start + min(last, segment.end)) / 2
                segments[-1:] = _cut(segments[-1], seam, after=False) + _cut(segment, seam, after=True)
    return tuple(segments)


def _cut(segment: Segment, seam: float, *, after: bool) -> list[Segment]:
    """What of a segment lies after (or before) the seam: all, some or none of its words."""
    kept = tuple(word for word in segment.words if ((word.start + word.end) / 2 >= seam) is after)
    if len(kept) == len(segment.words):
        return [segment]
    if not kept:
        return []
    text = "".join(word.word for word in kept)
    return [segment.model_copy(update={"words": kept, "text": text, "start": kept[0].start, "end": kept[-1].end})]
