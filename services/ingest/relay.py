"""What happens to jobs, fanned out to the requests that wait for it: one subscription, however many wait.

The bus republishes every state event on `relay.results.<tenant>.<job>.state`. This is a hint that makes waiting end at
once; the record is the truth, read again now and then in case a hint was lost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from nats.aio.msg import Msg

from services.contracts import subjects
from services.contracts.events import Record
from services.runtime.bus import Bus
from services.runtime.records import Records

REREAD = 5.0
"""Seconds after which a waiting request reads the record itself."""

Listener = Callable[[Record], None]


class Watch:
    """The newest state heard of one job. Holds one record, however slow its reader."""

    def __init__(self) -> None:
        self._newest: Record | None = None
        self._rung = asyncio.Event()

    def ring(self, record: Record | None) -> None:
        """Hand over a newer state; None only wakes."""
        self._newest = record or self._newest
        self._rung.set()

    async def heard(self, timeout: float) -> Record | None:
        """The state that came since the last call, at once or within `timeout` seconds; else None."""
        try:
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        except TimeoutError:
            return None
        self._rung.clear()
        newest, self._newest = self._newest, None
        return newest


class Relay:
    """Fans state events out. Open it with `relay(...)`."""

    def __init__(self, records: Records, stopping: asyncio.Event) -> None:
        self._records = records
        self._stopping = stopping
        self._watches: dict[tuple[str, str], set[Watch]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with every state of every job; it must not block."""
        self._listeners.append(listener)

    @contextmanager
    def watch(self, tenant: str, job: str) -> Iterator[Watch]:
        """Hear of one job. Begin before reading its record, so that nothing falls between the two."""
        key, watch = (tenant, job), Watch()
        self._watches.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[key].discard(watch)
            if not self._watches[key]:
                del self._watches[key]

    async def settled(self, record: Record, timeout: float, gone: Callable[[], bool]) -> Record:
        """The record when the job has ended, or as it is after `timeout` seconds, when `gone()`, or at shutdown."""
        return await self._wait(record, timeout, gone, lambda now: now.state.terminal)

    async def moved(self, record: Record, timeout: float, gone: Callable[[], bool]) -> Record:
        """The record as soon as it differs from `record`, or as it is after `timeout` seconds."""
        return await self._wait(record, timeout, gone, lambda now: now != record or now.state.terminal)

    async def _wait(
        self, record: Record, timeout: float, gone: Callable[[], bool], enough: Callable[[Record], bool]
    ) -> Record:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        with self.watch(record.tenant, record.job) as watch:
            record = await self._records.get(record.tenant, record.job) or record
            while not enough(record) and not gone() and not self._stopping.is_set():
                left = until - loop.time()
                if left <= 0:
                    break
                heard = await watch.heard(min(left, REREAD))
                record = heard or await self._records.get(record.tenant, record.job) or record
            return record

    def wake_all(self) -> None:
        """End every wait: the process is about to stop."""
        for watches in self._watches.values():
            for watch in watches:
                watch.ring(None)

    async def hear(self, message: Msg) -> None:
        """Take one state event."""
        _, _, tenant, job, _ = message.subject.split(".")
        watches = self._watches.get((tenant, job), ())
        if not watches and not self._listeners:
            return
        record = Record.model_validate_json(message.data)
        for listener in self._listeners:
            listener(record)
        for watch in watches:
            watch.ring(record)


@asynccontextmanager
async def relay(bus: Bus, records: Records, stopping: asyncio.Event) -> AsyncIterator[Relay]:
    """A relay that hears every state event of the bus."""
    it = Relay(records, stopping)
    subscription = await bus.nc.subscribe(f"{subjects.RELAY}.{subjects.ALL_STATES}", cb=it.hear)
    try:
        yield it
    finally:
        it.wake_all()
        if bus.nc.is_connected:
            await subscription.unsubscribe()
