"""Which request an engine worker takes next, and who gives way to whom while they are worked on."""

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator

from services.transcriber.engine.pipe import Header

PATIENCE = 10.0
"""Seconds that one request gives way to urgent ones; they count in its budget of engine time (60 s and more)."""


class Desk:
    """Requests that wait, urgent ones first; and those that nobody waits for any more."""

    def __init__(self) -> None:
        self._heap: list[tuple[bool, int, Header, bytes]] = []
        self._order = itertools.count()
        self._cancelled: set[int] = set()
        self._open: set[int] = set()
        self._condition = threading.Condition()

    def put(self, header: Header, payload: bytes) -> None:
        """Queue a request."""
        with self._condition:
            self._open.add(header["id"])
            heapq.heappush(self._heap, (not header["urgent"], next(self._order), header, payload))
            self._condition.notify()

    def take(self) -> tuple[Header, bytes]:
        """The next request; waits for one."""
        with self._condition:
            while not self._heap:
                self._condition.wait()
            return heapq.heappop(self._heap)[2:]

    def cancel(self, number: int) -> None:
        """Nobody waits for this request any more."""
        with self._condition:
            if number in self._open:
                self._cancelled.add(number)

    def cancelled(self, number: int) -> bool:
        """Whether a request was cancelled."""
        with self._condition:
            return number in self._cancelled

    def done(self, number: int) -> None:
        """Forget a request."""
        with self._condition:
            self._open.discard(number)
            self._cancelled.discard(number)


class Courtesy:
    """Lets urgent requests have a processor: others stop between two stages while more run than there are `places`.

    Nobody waits longer than `patience` seconds in all, so that a stream of urgent requests starves no batch.
    """

    def __init__(self, places: int, patience: float = PATIENCE) -> None:
        self._places = places
        self._patience = patience
        self._active = 0
        self._urgent = 0
        self._changed = threading.Condition()

    @property
    def active(self) -> int:
        """Requests that are being worked on, and do not wait."""
        return self._active

    @contextlib.contextmanager
    def working(self, urgent: bool) -> Iterator[Callable[[], None]]:
        """Work on a request; call what is yielded between its stages."""
        left = self._patience

        def give_way() -> None:
            nonlocal left
            with self._changed:
                if urgent or not self._urgent or self._active <= self._places or left <= 0:
                    return
                self._count(-1, 0)
                began = time.monotonic()
                self._changed.wait_for(lambda: not self._urgent or self._active < self._places, left)
                left -= time.monotonic() - began
                self._count(1, 0)

        with self._changed:
            self._count(1, urgent)
        try:
            yield give_way
        finally:
            with self._changed:
                self._count(-1, -urgent)

    def _count(self, active: int, urgent: int) -> None:
        self._active += active
        self._urgent += urgent
        self._changed.notify_all()
