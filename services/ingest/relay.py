"""What happens to jobs, fanned out to whoever waits for it or follows it: one subscription, however many there are.

The bus republishes every event of the stream of results on `relay.results.<tenant>.<job>.<kind>`. This is a hint that
makes waiting end at once. The truth is the record for who waits for a state, read again now and then, and the stream
for who follows events: its sequences show when a hint was lost.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from nats.aio.msg import Msg

from services.contracts import stream, subjects
from services.contracts.events import Record
from services.contracts.stream import Kind
from services.ingest.follow import Backlog, Follower, heard
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.records import Records

REREAD = 5.0
"""Seconds after which a waiting request reads the record itself."""
LOOK = 2.0
"""Seconds between two looks at how far the stream is: what was lost is noticed within two of them."""

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
    """Fans events out. Open it with `relay(...)`."""

    def __init__(self, bus: Bus, records: Records, stopping: asyncio.Event) -> None:
        self._bus = bus
        self._records = records
        self._stopping = stopping
        self._watches: dict[tuple[str, str], set[Watch]] = {}
        self._followers: dict[tuple[str, str], set[Follower]] = {}
        self._listeners: list[Listener] = []
        self._epoch: str | None = None
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._waiting: Callable[[], int] = lambda: 0

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
                if heard is not None and heard.state.terminal:
                    return heard
                # A hint may be older than what was read before it came: nobody is to see a job go backwards.
                record = await self._records.get(record.tenant, record.job) or record
            return record

    def wake_all(self) -> None:
        """End every wait: the process is about to stop."""
        for watches in self._watches.values():
            for watch in watches:
                watch.ring(None)

    @contextmanager
    def follow(self, tenant: str, job: str, backlog: Backlog) -> Iterator[Follower]:
        """Hear every event of a job, or of `stream.ALL` the tenant's, as far as there is room in the backlog."""
        key, follower = (tenant, job), Follower(backlog)
        self._followers.setdefault(key, set()).add(follower)
        try:
            yield follower
        finally:
            follower.close()
            self._followers[key].discard(follower)
            if not self._followers[key]:
                del self._followers[key]

    async def epoch(self) -> str:
        """The epoch of the stream of results. Raises `Unavailable`."""
        async with self._lock:
            if self._epoch is None:
                self._epoch = stream.epoch_of(await self._bus.epoch(subjects.RESULTS))
            return self._epoch

    def hearing(self, waiting: Callable[[], int]) -> None:
        """It hears from now on; `waiting` counts the events that have come and were not taken yet."""
        self._waiting = waiting

    async def hear(self, message: Msg) -> None:
        """Take one event."""
        event = heard(message, self._epoch or "")
        if event.cursor.sequence != self._sequence + 1:
            self._lost()
        self._sequence = event.cursor.sequence
        if event.kind is Kind.STATE:
            self._tell(event.tenant, event.job, event.record)
        for whose in (event.job, stream.ALL):
            for follower in self._followers.get((event.tenant, whose), ()):
                follower.hear(event)

    async def mind(self) -> None:
        """Notice what was lost when nothing follows it to show the gap, and a stream that was made anew."""
        before: tuple[str, int] | None = None
        while True:
            await asyncio.sleep(LOOK)
            try:
                now = await self._bus.tip(subjects.RESULTS)
            except Unavailable:
                continue
            # What was stored at the last look came before this answer, unless it was lost; a busy process is only late.
            missing = before is not None and before[1] > self._sequence and not self._waiting()
            if before is not None and (before[0] != now[0] or missing):
                self._lost()
                self._sequence = before[1] if before[0] == now[0] else now[1]
            before = now

    def _tell(self, tenant: str, job: str, record: Record | None) -> None:
        watches = self._watches.get((tenant, job), ())
        if record is None:
            return
        for listener in self._listeners:
            listener(record)
        for watch in watches:
            watch.ring(record)

    def _lost(self) -> None:
        """Some event was not heard, or the stream was made anew: every follower reads the stream."""
        self._epoch = None
        for followers in self._followers.values():
            for follower in followers:
                follower.lag()


@asynccontextmanager
async def relay(bus: Bus, records: Records, stopping: asyncio.Event) -> AsyncIterator[Relay]:
    """A relay that hears every event of the bus."""
    it = Relay(bus, records, stopping)
    subscription = await bus.nc.subscribe(f"{subjects.RELAY}.{subjects.ALL_RESULTS}", cb=it.hear)
    it.hearing(lambda: subscription.pending_msgs)
    try:
        yield it
    finally:
        it.wake_all()
        if bus.nc.is_connected:
            await subscription.unsubscribe()
