"""Units of work in hand: kept alive on the bus while work goes on, acknowledged after it, given back if it cannot."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from services.contracts import subjects
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.logs import get_logger
from services.runtime.puller import Puller, Unit
from services.transcriber.meters import Meters

AWAY_DELAY = 2.0
"""Seconds after which a unit is tried again that the bus or the store interrupted."""
CRASH_DELAY = 0.5
"""Seconds after which a unit is tried again on which a child died."""


class ChildDied(Exception):  # noqa: N818 - what happened, to a process
    """A decoder or an engine died on this unit; it is counted already, and the unit is to be tried again."""


class Hands:
    """The units of one puller that this process works on."""

    def __init__(self, bus: Bus, puller: Puller, meters: Meters) -> None:
        self._meters = meters
        self._bus = bus
        self._puller = puller
        self._working: dict[asyncio.Task[None], str] = {}
        self._held: set[str] = set()
        self._log = get_logger()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear of cancelled jobs at once; the outcome in the store is the truth, this saves the engine's time."""

        async def on_cancel(message: Msg) -> None:
            job = message.subject.rsplit(".", 1)[-1]
            for task, working_on in self._working.items():
                if working_on == job:
                    task.cancel(subjects.CANCEL)

        subscription = await self._bus.nc.subscribe(subjects.cancel("*", "*"), cb=on_cancel)
        try:
            yield
        finally:
            await subscription.unsubscribe()

    def has(self, unit: Unit) -> bool:
        """Whether it is in hand."""
        return unit.name in self._held

    async def work(self, unit: Unit, job: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` for this unit, and settle the unit whatever comes of it.

        A unit that is in hand already is left to who works on it: where the bus or this process stood still for longer
        than `ack_wait`, the bus hands it out once more. It was given up by nobody, so that no start of it may count.
        """
        if self.has(unit):
            self._log.warning("a unit in hand came again", job=job)
            return
        self._held.add(unit.name)
        try:
            await self._hold(unit, job, work)
        finally:
            self._held.discard(unit.name)

    async def _hold(self, unit: Unit, job: str, work: Callable[[], Awaitable[None]]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(_run(work), name=f"work {job}")
        beat = asyncio.create_task(self._heartbeat(unit), name=f"heartbeat {job}")
        self._working[task] = job
        began, outcome = time.monotonic(), "done"
        try:
            await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            mine = asyncio.current_task()
            if mine is not None and mine.cancelling():
                # This process is going down; another engine, or the next run of this one, takes the unit at once.
                outcome = "drained"
                await self._settle(unit, 0.0)
                raise
            outcome = "cancelled"
            await self._puller.done(unit)
        except (Unavailable, *AWAY) as error:
            outcome = "interrupted"
            self._log.warning("interrupted; trying again", job=job, reason=str(error)[:100])
            await self._settle(unit, AWAY_DELAY)
        except ChildDied:
            outcome = "child died"
            await self._settle(unit, CRASH_DELAY)
        except Exception as error:  # noqa: BLE001
            # A fault of ours in one job must not stop the others; its start stays counted, so it cannot go on for ever.
            outcome = "fault"
            self._log.error("a unit failed", job=job, error=type(error).__name__, exc_info=error)
            await self._settle(unit, AWAY_DELAY)
        else:
            await self._puller.done(unit)
        finally:
            del self._working[task]
            self._meters.unit.labels(self._puller.stream, outcome).observe(time.monotonic() - began)
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)

    async def _settle(self, unit: Unit, delay: float) -> None:
        try:
            await self._puller.give_back(unit, delay)
        except AWAY:
            return  # it comes back by itself after ack_wait

    async def _heartbeat(self, unit: Unit) -> None:
        """Work has budgets of its own (the decoder's, the engine's), so as long as it runs it advances."""
        while True:
            await asyncio.sleep(self._puller.ack_wait / 3)
            try:
                await self._puller.progress(unit)
            except AWAY:
                continue


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()
