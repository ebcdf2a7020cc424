"""An honest place in the queue: how many units of work go before a job, how much audio that is, and when it starts.

A unit is a part, or a job that has not been cut yet. With `k` units of its own tenant before it, a job stands at
1 + k + the sum over the other tenants of min(theirs, k + 1), since tenants take turns; all of a more urgent lane goes
before it.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from time import monotonic, time

from services.contracts import subjects
from services.contracts.events import Record
from services.contracts.jobs import Lane, State
from services.ingest.engines import Engines
from services.runtime.bus import Bus
from services.runtime.records import Records

FRESH = 1.0
"""Seconds for which a count of the queues holds."""
REMEMBERED = 10_000
"""Jobs whose remaining seconds are kept."""
LOOKED_UP = 100
"""Records read at most per count, for jobs that nothing was heard of yet."""
GUESSED_BYTES_PER_SECOND = 16_000
"""Of a recording that has not been decoded yet: 128 kbit/s, the middle of what people send."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job stands. `ahead` is in seconds of audio, `expected_start` in Unix seconds; None = not known."""

    position: int
    ahead: float
    expected_start: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a lane or is in hand; `seconds` of audio that are still to be heard."""

    lane: Lane
    units: int
    seconds: float
    jobs: int
    tenants: int


@dataclass(slots=True)
class _Queue:
    """The units waiting of one tenant in one lane, by job; ids sort by time."""

    units: dict[str, int] = field(default_factory=dict)

    def before(self, job: str) -> list[str]:
        return [other for other in self.units if other < job]


class Queue:
    """Counts what waits on the bus, once every `fresh` seconds at most, however many callers ask."""

    def __init__(self, bus: Bus, engines: Engines, records: Records, fresh: float = FRESH) -> None:
        self._fresh = fresh
        self._bus = bus
        self._engines = engines
        self._records = records
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._lanes: dict[Lane, dict[str, _Queue]] = {}
        self._left: OrderedDict[str, float] = OrderedDict()

    def hear(self, record: Record) -> None:
        """Take note of a job that came, went or got on; called with every state event."""
        if self._until > monotonic():  # else the next count will see it
            units = self._queue_of(record).units
            if record.state.terminal:
                units.pop(record.job, None)
            elif record.state == State.ACCEPTED:
                units.setdefault(record.job, 1)
        if record.state.terminal:
            self._left.pop(record.job, None)
            return
        self._left[record.job] = _left(record)
        self._left.move_to_end(record.job)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    async def place(self, record: Record) -> Place | None:
        """Where this job stands; None once it has begun or ended. Raises `Unavailable`."""
        if record.state.terminal or record.timings.started is not None:
            return None
        await self._count()
        own = self._queue_of(record)
        before = own.before(record.job)
        k = sum(own.units[job] for job in before)
        position, ahead = 1 + k, sum(self._seconds(job) for job in before)
        for lane, tenants in self._lanes.items():
            if _urgency(lane) > _urgency(record.lane):
                continue
            for tenant, queue in tenants.items():
                if lane == record.lane and tenant == record.tenant:
                    continue
                waiting = sum(queue.units.values())
                if not waiting:
                    continue
                first = min(waiting, k + 1) if lane == record.lane else waiting
                position += first
                ahead += sum(self._seconds(job) for job in queue.units) * first / waiting
        return Place(position, round(ahead, 1), await self._start(ahead))

    async def lanes(self) -> list[Waiting]:
        """Every lane, the most urgent first. Raises `Unavailable`."""
        await self._count()
        found = []
        for lane in Lane:
            queues = [queue.units for queue in self._lanes.get(lane, {}).values() if queue.units]
            jobs = [job for units in queues for job in units]
            units, seconds = sum(sum(one.values()) for one in queues), sum(map(self._seconds, jobs))
            found.append(Waiting(lane, units, round(seconds, 1), len(jobs), len(queues)))
        return found

    def _queue_of(self, record: Record) -> _Queue:
        return self._lanes.setdefault(record.lane, {}).setdefault(record.tenant, _Queue())

    async def _start(self, ahead: float) -> float | None:
        rates = [card.rate for card in await self._engines.cards() if card.rate]
        return round(time() + ahead / sum(rates), 1) if rates else None

    def _seconds(self, job: str) -> float:
        return self._left.get(job, 0.0)

    async def _count(self) -> None:
        async with self._lock:
            if self._until > monotonic():
                return
            jobs, parts = await asyncio.gather(
                self._bus.counts(subjects.JOBS, subjects.ALL_JOBS), self._bus.counts(subjects.PARTS, subjects.ALL_PARTS)
            )
            lanes: dict[Lane, dict[str, _Queue]] = {}
            for subject in (*parts, *jobs):
                kind, lane, tenant, job, *_ = subject.split(".")
                units = lanes.setdefault(Lane(lane), {}).setdefault(tenant, _Queue()).units
                # A job that is being cut waits by its parts; one that is not stands as one unit.
                units[job] = units.get(job, 0) + 1 if kind == "parts" else units.get(job, 1)
            self._lanes = lanes
            await self._look_up()
            self._until = monotonic() + self._fresh

    async def _look_up(self) -> None:
        queues = [(tenant, queue) for tenants in self._lanes.values() for tenant, queue in tenants.items()]
        unheard = [(tenant, job) for tenant, queue in queues for job in queue.units if job not in self._left]
        for record in await asyncio.gather(*(self._records.get(*key) for key in unheard[:LOOKED_UP])):
            if record is not None:
                self.hear(record)


def _left(record: Record) -> float:
    """Seconds of audio that a job still asks of the engine, guessed from its size until it has been cut."""
    known = record.audio if record.sealed else max(record.audio, record.size / GUESSED_BYTES_PER_SECOND)
    return max(0.0, known - record.audio_done)


def _urgency(lane: Lane) -> int:
    return list(Lane).index(lane)
