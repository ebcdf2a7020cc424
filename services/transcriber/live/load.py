"""What live sessions cost this engine, and so how many of them it can hear at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

USUAL = 0.7
"""Share of one worker that a session takes, before any was measured (0.3 to 0.9 on two cores, docs/engine.md)."""
LOADING = 2.0
"""Seconds that a model takes to load, before any was measured."""
SPAN = 60.0
"""Seconds over which the share is measured."""
STEP = 0.5
"""Seconds of new sound after which a hypothesis is made (measured: better than 1.0 in every respect)."""
ENOUGH = 10
"""Requests that tell something."""
BUSY = 10.0
"""Seconds after a session's last request for which the engine is kept ready for the next one."""


class Load:
    """Measures how much of the engine's time sessions take."""

    def __init__(self, workers: int, most: int | None) -> None:
        self._workers = workers
        self._most = most
        self._spent: list[tuple[float, float]] = []
        self._last = float("-inf")
        self._now = 0
        self.loading = LOADING

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Around one request of a session to the engine."""
        begun = time.monotonic()
        self._now += 1
        try:
            yield
        finally:
            self._now -= 1
            self._last = now = time.monotonic()
            self._spent = [*(one for one in self._spent if one[0] > now - SPAN), (now, now - begun)]

    def expect(self) -> None:
        """A session begins: keep the engine ready, so that its first words find no batches on every worker."""
        self._last = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether somebody speaks, did a moment ago, or is about to."""
        return self._now > 0 or time.monotonic() - self._last < BUSY

    @property
    def share(self) -> float:
        """Share of a worker that a session takes in which somebody speaks; waiting for a worker included.

        Of the requests of the last minute: a session that is silent costs nothing, but is not to be counted on.
        """
        recent = [spent for at, spent in self._spent if at > time.monotonic() - SPAN]
        return sum(recent) / (len(recent) * STEP) if len(recent) >= ENOUGH else USUAL

    @property
    def capacity(self) -> int:
        """Sessions that can be heard at once; at least one."""
        if self._most is not None:
            return self._most
        return max(1, int(self._workers * 0.95 / min(1.0, max(0.05, self.share))))
