"""Units of work in hand, on a real bus."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.contracts import subjects
from services.contracts.ids import new_job_id, new_tenant
from services.contracts.jobs import Lane
from services.contracts.parts import JobWork
from services.runtime.bus import Bus
from services.runtime.metrics import Metrics
from services.runtime.puller import Puller, Unit
from services.transcriber.hands import Hands
from services.transcriber.meters import Meters
from tests.contract.keys_process import bus_of
from tests.support import NatsServer


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """May do what ingest and a transcriber do."""
    async with bus_of(nats_server, "admin") as bus:
        await bus.ensure_streams()
        yield bus


async def pulled(puller: Puller, tenant: str) -> Unit:
    """The tenant's next unit, as soon as there is one."""
    async with asyncio.timeout(60):
        while (unit := await puller.pull_from(Lane.BATCH, tenant)) is None:
            await asyncio.sleep(0.01)
    return unit


async def test_a_unit_in_hand_is_begun_once(bus: Bus) -> None:
    """Handed out again while it is worked on, after a standstill, it is left to who works on it, whose ack holds."""
    puller = Puller(bus, subjects.JOBS, lambda _: 1.0)
    hands = Hands(bus, puller, Meters(Metrics()))
    tenant, job = new_tenant(), new_job_id()
    subject = subjects.job(Lane.BATCH, tenant, job)
    await bus.offer(subject, JobWork(job=job, tenant=tenant, size=1, model="base"))
    unit = await pulled(puller, tenant)
    begun, over = asyncio.Semaphore(0), asyncio.Event()

    async def work() -> None:
        begun.release()
        await over.wait()

    working = asyncio.create_task(hands.work(unit, job, work), name="work")
    await begun.acquire()
    await bus.nc.publish(unit.message.reply, b"-NAK")  # the bus hands it out again, as it does after `ack_wait`
    again = await pulled(puller, tenant)
    assert again.name == unit.name == subject
    async with asyncio.timeout(60):
        await hands.work(again, job, work)
    assert begun.locked()
    over.set()
    await working
    assert not await bus.pending(subjects.JOBS, subject)
    await bus.offer(subject, JobWork(job=job, tenant=tenant, size=1, model="base"))
    over.clear()
    once_more = asyncio.create_task(hands.work(await pulled(puller, tenant), job, work), name="work")
    await begun.acquire()
    over.set()
    await once_more
