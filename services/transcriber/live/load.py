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


class Load:
    """Measures how much of the engine's time sessions take."""

    def __init__(self, workers: int, most: int | None) -> None:
        self._workers = workers
        self._most = most
        self._spent: list[tuple[float, float, str]] = []
        self._since: dict[str, float] = {}
        self.loading = LOADING

    @contextmanager
    def measuring(self, session: str) -> Iterator[None]:
        """Around one request of a session to the engine."""
        begun = time.monotonic()
        self._since.setdefault(session, begun)
        try:
            yield
        finally:
            now = time.monotonic()
            self._spent.append((now, now - begun, session))
            self._spent = [one for one in self._spent if one[0] > now - SPAN]

    def ended(self, session: str) -> None:
        """The session takes nothing any more."""
        self._since.pop(session, None)
        self._spent = [one for one in self._spent if one[2] != session]

    @property
    def share(self) -> float:
        """Share of a worker that one session takes, the mean of the last minute; waiting for a worker included."""
        now = time.monotonic()
        over = sum(min(SPAN, now - since) for since in self._since.values())
        if over < SPAN / 4:
            return USUAL
        return max(0.05, sum(spent for _, spent, _ in self._spent) / over)

    @property
    def capacity(self) -> int:
        """Sessions that can be heard at once; at least one."""
        if self._most is not None:
            return self._most
        return max(1, int(self._workers * 0.95 / min(1.0, self.share)))
