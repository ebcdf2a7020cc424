"""The engine's measured rate: audio seconds per second, over the last minutes of work."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from services.transcriber.meters import Meters

WINDOW = 300.0
"""Seconds of work that the measurement looks back on."""


class Rate:
    """Counts audio done and time busy. `assumed` is what we expect before anything was measured."""

    def __init__(self, slots: int, meters: Meters, assumed: float = 8.0) -> None:
        self._meters = meters
        self._slots = slots
        self._assumed = assumed
        self._done: deque[tuple[float, float, float]] = deque()
        self.busy = 0
        """Batches on the engine now."""

    @contextmanager
    def measuring(self, seconds: float) -> Iterator[None]:
        """Count a batch of `seconds` of audio, if it succeeds."""
        began = time.monotonic()
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
        now = time.monotonic()
        self._done.append((now, seconds, now - began))
        self._meters.audio.inc(seconds)
        self._meters.batch.observe(now - began)
        while self._done and self._done[0][0] < now - WINDOW:
            self._done.popleft()

    @property
    def measured(self) -> float | None:
        """Audio seconds per second of the whole engine with all slots busy; None before any work."""
        return self.per_slot * self._slots if self._done else None

    @property
    def per_slot(self) -> float:
        """Audio seconds per second of one slot: long enough batches only, short ones measure overhead."""
        busy = sum(took for _, _, took in self._done)
        return max(0.1, sum(audio for _, audio, _ in self._done) / busy) if busy else self._assumed
