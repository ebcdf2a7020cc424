"""Parts that this process has just cut: its own engine need not fetch from the store what is still at hand."""

from collections import OrderedDict

from services.contracts.parts import Part

LARGEST = 2 << 20
"""Bytes of the samples of a part that is kept: a minute. What takes longer to hear gains nothing by milliseconds."""
MOST = 16 << 20
"""Bytes that are kept in all; the oldest go first."""


class Fresh:
    """Holds short parts between their cutting and their transcription, each until it is taken once.

    The store has them all the same, so whatever is not here any more is fetched from there.
    """

    def __init__(self) -> None:
        self._parts: OrderedDict[tuple[str, int], tuple[Part, bytes]] = OrderedDict()
        self._bytes = 0

    def keep(self, job: str, part: Part, pcm: bytes) -> None:
        """Keep a part that was just stored. `pcm` is s16le, 16 kHz, mono."""
        if len(pcm) > LARGEST:
            return
        self.take(job, part.n)
        self._parts[job, part.n] = (part, pcm)
        self._bytes += len(pcm)
        while self._bytes > MOST:
            _, (_, oldest) = self._parts.popitem(last=False)
            self._bytes -= len(oldest)

    def take(self, job: str, n: int) -> tuple[Part, bytes] | None:
        """The part and its samples, which are then here no more."""
        found = self._parts.pop((job, n), None)
        if found is not None:
            self._bytes -= len(found[1])
        return found
