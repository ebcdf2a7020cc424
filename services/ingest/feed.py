"""The events of a job, or of all of a tenant's: what is stored, then what comes, with no gap and no repeat.

The stream of results is read by direct get, which leaves no consumer behind; the relay is heard from before the reading
begins, and of what both have the second is dropped. Whatever shakes this (no room in the backlog while a long past is
read, a lost message, a bus that was away) ends in reading the stream again from the last event that was handed out.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from services.contracts import subjects
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.jobs import State
from services.contracts.stream import ALL, Cursor, Kind
from services.ingest.follow import Backlog, Follower, Heard, heard
from services.ingest.jobs import Jobs
from services.ingest.relay import Relay
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_batch, read_last

BATCH = 100
"""Events read at once."""
BATCH_BYTES = 1 << 20
"""Bytes read at once, or one event."""
READS = 16
"""Readings of the stream at once: after the bus was away everybody reads."""
AGAIN = 1.0
"""Seconds after which a bus that is away is tried again."""
LATE = 60.0
"""Seconds after a job's end in which its last event may still be on its way to the stream."""
LOOK = 5.0
"""Seconds between two looks for an end that the record tells and the stream does not tell yet."""


class TooSlow(Exception):  # noqa: N818 - it names a state
    """The reader left no room for what came. `after` is the last event that it was given; None if it was given none."""

    def __init__(self, after: Cursor | None) -> None:
        super().__init__("too slow")
        self.after = after


@dataclass(frozen=True, slots=True)
class Begun:
    """Events follow from here on. `after` None: from the start. `record` is the job as it is; None for all jobs."""

    after: Cursor | None
    record: Record | None


class Feed:
    """Hands out events."""

    def __init__(self, bus: Bus, relay: Relay, jobs: Jobs) -> None:
        self._bus = bus
        self._relay = relay
        self._jobs = jobs
        self._reads = asyncio.Semaphore(READS)

    async def follow(
        self, tenant: str, job: str, after: Cursor | None, backlog: Backlog
    ) -> AsyncGenerator[Begun | Heard, None]:
        """`Begun`, then the events after `after`; again `Begun` where the stream was made anew and all starts over.

        `job` may be `ALL`: without `after` those from now on, and never an end. Of a job it ends with its last state.
        Raises `Problem` JOB_NOT_FOUND or ERASED, `TooSlow`, and `Unavailable` before it has begun.
        """
        with self._relay.follow(tenant, job, backlog) as follower:
            reader = _Reader(self._bus, self._relay, self._jobs, self._reads, follower, tenant, job, after)
            while not reader.over:
                try:
                    items = await reader.more()
                except Unavailable:
                    if not reader.begun:
                        raise
                    follower.lag()
                    await asyncio.sleep(AGAIN)
                    continue
                for item in items:
                    reader.hand_out(item)
                    yield item
                    if reader.over:
                        return


class _Reader:
    """Where one watch is, and how it goes on from there: catching up by reading the stream, or live by the relay."""

    def __init__(
        self,
        bus: Bus,
        relay: Relay,
        jobs: Jobs,
        reads: asyncio.Semaphore,
        follower: Follower,
        tenant: str,
        job: str,
        after: Cursor | None,
    ) -> None:
        self._bus = bus
        self._relay = relay
        self._jobs = jobs
        self._reads = reads
        self._follower = follower
        self._tenant = tenant
        self._job = job
        self._from_now = job == ALL and after is None
        self._epoch = after.epoch if after else ""
        self._sequence = after.sequence if after else 0
        self._read = 0
        self._reading = False
        self._live = False
        self._record: Record | None = None
        self.begun = False
        self.over = False

    def hand_out(self, item: Begun | Heard) -> None:
        """Take note of what the watcher gets: from there on it goes on."""
        if isinstance(item, Heard):
            self._sequence = item.cursor.sequence
            self.over = self._job != ALL and item.ends

    async def more(self) -> Sequence[Begun | Heard]:
        """What comes next; nothing when a wait was in vain. Raises as `Feed.follow` does."""
        if self._reading:
            return await self._stored()
        if self._follower.behind:
            return await self._catch_up()
        return await self._heard()

    async def _catch_up(self) -> Sequence[Begun]:
        if self._live and self._follower.overflowed:
            raise TooSlow(self._cursor)
        self._live = False
        epoch = await self._relay.epoch()
        self._follower.catch_up()
        self._record = None if self._job == ALL else await self._look(self._job)
        if self._epoch != epoch:
            self._sequence, self.begun = 0, False
        if self._from_now and not self.begun and not self._epoch:
            self._sequence = (await self._bus.tip(subjects.RESULTS))[1]
        self._epoch, self._read, self._reading = epoch, self._sequence, True
        if self.begun:
            return []
        self.begun = True
        return [Begun(self._cursor, self._record)]

    async def _stored(self) -> Sequence[Heard]:
        """A batch of what the stream holds. What is lost meanwhile, the reader being slow, is read as well."""
        pattern = subjects.results(self._tenant, "*" if self._job == ALL else self._job)
        async with self._reads:
            found, more = await read_batch(self._bus.nc, subjects.RESULTS, pattern, self._read, BATCH, BATCH_BYTES)
        events = [heard(message, self._epoch) for message in found]
        shown = await self._shown(events)
        if events:
            self._read = events[-1].cursor.sequence
        if not more:
            self._reading, self._live = False, not self._follower.behind
            self.over = not shown and await self._ended()
        return shown

    async def _heard(self) -> Sequence[Heard]:
        """The next event of the relay. An end that the record tells and no event yet is looked for again."""
        ended = self._record is not None and self._record.state.terminal
        event = await self._follower.next(LOOK if ended else None)
        if event is None:
            if ended:
                self._follower.lag()
            return []
        if event.cursor.sequence <= self._sequence:
            return []
        # Words may come late, from an engine that does not know yet that the job was ended and erased.
        return await self._shown([event]) if self._job == ALL and event.kind is Kind.SEGMENTS else [event]

    @property
    def _cursor(self) -> Cursor | None:
        return Cursor(self._epoch, self._sequence) if self._sequence else None

    async def _look(self, job: str) -> Record:
        record = await self._jobs.get(self._tenant, job)
        if record.state == State.ERASED:
            raise Problem(Code.ERASED)
        return record

    async def _shown(self, events: Sequence[Heard]) -> Sequence[Heard]:
        """Of these events those that may be seen: of an erased job nothing but that it was erased."""
        jobs = list({event.job for event in events})
        there = dict(zip(jobs, await asyncio.gather(*map(self._is_there, jobs)), strict=True))
        return [
            event
            for event in events
            if there[event.job] or (event.record is not None and event.record.state == State.ERASED)
        ]

    async def _is_there(self, job: str) -> bool:
        try:
            await self._look(job)
        except Problem:
            return False
        return True

    async def _ended(self) -> bool:
        """Whether the job's last event is at or before this place, or is kept no longer."""
        record = self._record
        if record is None or not record.state.terminal:
            return False
        last = await read_last(self._bus.nc, subjects.RESULTS, subjects.state(record.tenant, record.job))
        if last is None:
            return time.time() - (record.timings.finished or record.timings.accepted) > LATE
        event = heard(last, self._epoch)
        return event.ends and event.cursor.sequence <= self._sequence
