"""Many queues, worked off side by side: one task for each that has something waiting, none for the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger


class Crowd:
    """Drains the queues that `waiting` names, every `every` seconds and whenever `bell` is set.

    `drain(name, places)` works one queue off; it takes a place for each piece of work. There are `at_once` of them,
    given out in the order of asking: who takes few at a time is fair to the others, however much is waiting. However
    often the bell is rung, there are `pause` seconds between two looks.
    """

    def __init__(
        self,
        waiting: Callable[[], Awaitable[Iterable[str]]],
        drain: Callable[[str, asyncio.Semaphore], Awaitable[None]],
        *,
        every: float,
        at_once: int,
        pause: float = 0.0,
    ) -> None:
        self.bell = asyncio.Event()
        self._waiting = waiting
        self._drain = drain
        self._every = every
        self._at_once = at_once
        self._pause = pause

    async def run(self) -> None:
        """For ever. What is away is waited for; an error of `drain` ends it."""
        places, busy = asyncio.Semaphore(self._at_once), set[str]()
        rang: set[str] = set()

        async def work(name: str) -> None:
            try:
                await self._drain(name, places)
            finally:
                busy.discard(name)
                if name in rang:  # more may have come after its last look
                    self.bell.set()

        async with asyncio.TaskGroup() as group:
            while True:
                self.bell.clear()
                try:
                    found = list(await self._waiting())
                except Unavailable as away:
                    get_logger().warning("queues are not looked at", reason=str(away))
                    found = []
                rang = busy.intersection(found)
                for name in found:
                    if name not in busy:
                        busy.add(name)
                        group.create_task(work(name), name=f"drain-{name}")
                await asyncio.sleep(self._pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.bell.wait(), self._every)
