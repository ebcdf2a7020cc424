"""Forms batches of windows for the engine: pure, and indifferent to which recording a window comes from."""

from collections.abc import Iterator, Sequence
from math import ceil

from services.transcriber.engine.protocol import Window

MOST_WINDOWS = 8
MOST_SECONDS = 120.0
"""Measured with `base` on two cores: batches of 7 to 9 windows of 15 s are the fastest, and memory stays small."""
FIRST_WINDOWS = 2
"""Windows of a first batch that is to bring words early."""


def batches_of(
    windows: Sequence[Window],
    *,
    early: bool = False,
    most_windows: int = MOST_WINDOWS,
    most_seconds: float = MOST_SECONDS,
) -> list[list[int]]:
    """Group windows into batches, given as indices: each window once, beside others of similar length.

    All windows of a batch are padded to its longest, so they are sorted by length; the longest batches come first,
    short ones even out the end. A batch holds at most `most_windows` windows and, padded, `most_seconds` seconds (a
    single window may be longer); batches are about equally large. With `early` the first batch holds the earliest
    windows only: a recording's first words are not to wait for a full batch.
    """
    earliest = sorted(range(len(windows)), key=lambda index: windows[index].start)
    first = earliest[:FIRST_WINDOWS] if early else []
    rest = sorted(earliest[len(first) :], key=lambda index: -len(windows[index].pcm))
    size = ceil(len(rest) / max(1, ceil(len(rest) / most_windows)))
    return [group for group in (first, *_groups(windows, rest, size, most_seconds)) if group]


def _groups(windows: Sequence[Window], order: Sequence[int], size: int, most_seconds: float) -> Iterator[list[int]]:
    """Consecutive windows, `size` of them or as many as fit `most_seconds` padded to the longest."""
    group: list[int] = []
    for index in order:
        if group and (len(group) == size or windows[group[0]].seconds * (len(group) + 1) > most_seconds):
            yield group
            group = []
        group.append(index)
    yield group
