"""The place in the queue, counted on a real bus."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.events import EngineCard, ModelCard, Record
from services.contracts.ids import job_id_from, new_tenant
from services.contracts.jobs import Door, Lane, Options, State, Timings
from services.contracts.parts import JobWork, PartWork
from services.ingest.engines import Engines
from services.ingest.queue import Queue
from services.runtime.blobs import open_blobs
from services.runtime.bus import Bus, connect_bus
from services.runtime.lifecycle import Tasks
from services.runtime.records import Records
from services.runtime.settings import Settings


class Line:
    """A bus on which jobs and parts wait."""

    def __init__(self, bus: Bus, records: Records) -> None:
        self.bus = bus
        self.records = records
        self.queue = Queue(bus, Engines(bus, Tasks(asyncio.Event())), records, fresh=3600)
        self._made = 0

    async def job(self, tenant: str, lane: Lane = Lane.INTERACTIVE, parts: int = 0, seconds: float = 60.0) -> Record:
        """A job that waits: uncut with `seconds` guessed by its size, or with `parts` parts of `seconds` each."""
        self._made += 1
        job = job_id_from(1_700_000_000_000 + self._made, 1)
        record = Record(
            job=job,
            tenant=tenant,
            key_id="k",
            door=Door.HTTP,
            lane=lane,
            model="base",
            state=State.PREPARING if parts else State.ACCEPTED,
            size=int(seconds * 16_000),
            parts=parts,
            sealed=parts > 0,
            audio=parts * seconds,
            timings=Timings(accepted=1.0),
        )
        assert await self.records.create(record)
        if not parts:
            await self.bus.offer(subjects.job(lane, tenant, job), JobWork(job=job, tenant=tenant, size=1, model="base"))
        for n in range(parts):
            work = PartWork(job=job, tenant=tenant, n=n, seconds=seconds, options=Options(model="base"))
            assert await self.bus.offer(subjects.part(lane, tenant, job, n), work)
        return record

    async def place(self, record: Record) -> tuple[int, float]:
        """Position and seconds ahead, counted now."""
        found = await Queue(self.bus, Engines(self.bus, Tasks(asyncio.Event())), self.records).place(record)
        assert found is not None
        return found.position, found.ahead


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    """An empty bus of its own: places depend on everything that waits."""
    async with Stack(tmp_path, services=["nats"]) as stack:
        settings = Settings(nats_url=stack.nats_url, nats_user="admin", nats_password=SecretStr(stack.nats_password()))
        async with connect_bus(settings) as bus, open_blobs(settings) as blobs:
            await bus.ensure_streams()
            yield Line(bus, Records(bus, blobs))


async def test_places_follow_the_formula(line: Line) -> None:
    """1 + k + the sum over the other tenants of min(theirs, k + 1); a more urgent lane stands before all of it."""
    me, few, many = new_tenant(), new_tenant(), new_tenant()
    for _ in range(2):
        await line.job(few)
    await line.job(many, parts=10, seconds=100.0)
    mine = [await line.job(me) for _ in range(4)]
    later = await line.job(me, lane=Lane.BATCH)
    # k = 0: one of each other tenant goes first. k = 3: both of few, four of many, three of my own.
    assert await line.place(mine[0]) == (1 + 0 + 1 + 1, 60.0 + 100.0)
    assert await line.place(mine[3]) == (1 + 3 + 2 + 4, 3 * 60.0 + 2 * 60.0 + 4 * 100.0)
    # Sixteen units wait in the lane above.
    assert (await line.place(later))[0] == 1 + 16


async def test_who_has_begun_has_no_place(line: Line) -> None:
    """A job that is on the engine, or has ended, stands in no queue."""
    record = await line.job(new_tenant())
    begun = record.model_copy(update={"timings": Timings(accepted=1.0, started=2.0)})
    assert await line.queue.place(begun) is None
    assert await line.queue.place(record.model_copy(update={"state": State.FAILED})) is None


async def test_the_start_follows_from_the_measured_rate(line: Line) -> None:
    """The expected start is the audio ahead over the rates of all engines."""
    tenant = new_tenant()
    await line.job(tenant, parts=6, seconds=100.0)
    mine = await line.job(tenant)
    for name in ("one", "two"):
        card = EngineCard(id=name, device="cpu", engine="digest", slots=1, rate=10.0)
        await line.bus.kv(subjects.ENGINES).put(name, card.encode())
    began = time.monotonic()
    found = await line.queue.place(mine)
    other = await line.queue.place(mine.model_copy(update={"job": "job_0" + "0" * 25}))
    between = time.monotonic() - began
    assert found is not None
    assert other is not None
    assert found.expected_start is not None
    assert other.expected_start is not None
    # Each counts from its own moment, told to a tenth of a second.
    later = found.expected_start - other.expected_start
    assert 600.0 / 20.0 - between - 0.2 <= later <= 600.0 / 20.0 + 0.2


async def test_what_was_heard_counts_before_it_is_counted(line: Line) -> None:
    """A job that came after the last count, and one that ended since, are known by their events."""
    tenant = new_tenant()
    first = await line.job(tenant)
    assert (found := await line.queue.place(first)) is not None
    assert found.position == 1
    second, third = await line.job(tenant), await line.job(tenant)
    line.queue.hear(second)
    line.queue.hear(third)
    line.queue.hear(first.model_copy(update={"state": State.COMPLETED}))
    assert (found := await line.queue.place(third)) is not None
    assert found.position == 2


async def test_nobody_waits_for_the_models_to_be_read_again(line: Line) -> None:
    """Models read some seconds ago are told at once and read again meanwhile; older ones are read first."""
    now = 100.0

    async def speak(*names: str) -> None:
        models = tuple(ModelCard(name=name, available=True, loaded=False) for name in names)
        card = EngineCard(id="one", device="cpu", engine="digest", slots=1, models=models)
        await line.bus.kv(subjects.ENGINES).put("one", card.encode())

    async with Tasks(asyncio.Event()) as tasks:
        engines = Engines(line.bus, tasks, lambda: now)
        await speak("base")
        assert set(await engines.models()) == {"base"}
        await speak("base", "small")
        now += 3
        assert set(await engines.models()) == {"base"}
        async with asyncio.timeout(60):
            while set(await engines.models()) != {"base", "small"}:
                await asyncio.sleep(0.01)
        await speak("tiny")
        now += 60
        assert set(await engines.models()) == {"tiny"}
