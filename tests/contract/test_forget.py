"""Words of live sessions on the bus, and when they leave it: with the rights of a transcriber on a real bus."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import Claims as Who
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, State
from services.contracts.live import Ended, LiveOptions, Quiet, Session
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import read_batch
from services.runtime.lifecycle import cancel
from services.runtime.records import Records
from services.transcriber.forget import PAUSE, Forgetter
from tests.contract.ingest_support import Ingest, settings_of

ENDED = Ended(position=1.0, state=State.COMPLETED, duration=1.0, finals=1)


@pytest.fixture
async def engine(stack: Stack) -> AsyncIterator[Bus]:
    """The bus as a transcriber may use it."""
    async with connect_bus(settings_of(stack, "transcriber")) as bus:
        yield bus


async def session_of(ingest: Ingest, who: Who, engine: Bus) -> Record:
    """A session that says something and does not end."""
    record = (await ingest.receive(who, b"speech")).record
    session = Session(
        session=record.job,
        tenant=who.tenant,
        options=(await ingest.jobs.manifest(who.tenant, record.job)).options,
        live=LiveOptions(),
        opened=0.0,
        max_seconds=60.0,
    )
    await ingest.bus.append(subjects.live_open(record.job), session.encode(), 0)
    await engine.append(subjects.live_out(record.job), Quiet(position=1.0).encode(), 0)
    return record.model_copy(update={"door": Door.LIVE, "lane": Lane.LIVE})


async def end(record: Record, engine: Bus) -> None:
    """Have the session end, as whoever hears it does."""
    [(_, last)] = await said(record, engine)
    await engine.append(subjects.live_out(record.job), ENDED.encode(), last)
    await engine.append(subjects.live_done(record.job), b"", 0)


@asynccontextmanager
async def forgetting(forgetter: Forgetter, ingest: Ingest) -> AsyncIterator[None]:
    """One that runs in a busy service: jobs of others are cancelled all the time."""

    async def busy() -> None:
        while True:
            await ingest.bus.nc.publish(subjects.cancel("tenant", new_job_id()))
            await asyncio.sleep(PAUSE / 4)

    tasks = [asyncio.create_task(work) for work in (forgetter.run(), busy())]
    try:
        yield
    finally:
        await cancel(*tasks)


async def left_alone(record: Record, engine: Bus) -> None:
    """Until its last message is all that the stream holds of what the session said."""
    async with asyncio.timeout(60):
        while [data for data, _ in await said(record, engine)] != [ENDED.encode()]:
            await asyncio.sleep(PAUSE / 2)


async def said(record: Record, engine: Bus) -> list[tuple[bytes, int]]:
    """What the stream holds of what the session said, with the sequence of each."""
    found, _ = await read_batch(engine.nc, subjects.LIVE, subjects.live_out(record.job), 0, 100)
    return [(message.data, int((message.headers or {})["Nats-Sequence"])) for message in found]


async def test_words_of_an_erased_session_leave_the_bus(ingest: Ingest, who: Who, engine: Bus) -> None:
    """Not before it has ended, then at once; what stays says how it ended. Others' words stay."""
    forgetter = Forgetter(engine, Records(engine, ingest.blobs))
    erased, other = await session_of(ingest, who, engine), await session_of(ingest, await ingest.sign_up(), engine)
    await ingest.complete(erased)
    await ingest.eraser.erase(who.tenant, erased.job)
    await forgetter.round()
    assert len(await said(erased, engine)) == 1
    for record in (erased, other):
        await end(record, engine)
    await forgetter.round()
    await forgetter.round()
    assert [data for data, _ in await said(erased, engine)] == [ENDED.encode()]
    assert len(await said(other, engine)) == 2


async def test_words_of_a_session_leave_the_bus_some_time_after_its_end(ingest: Ingest, who: Who, engine: Bus) -> None:
    """A session that has not ended is kept, however old it is: its engine may be away."""
    young, old = await session_of(ingest, who, engine), await session_of(ingest, await ingest.sign_up(), engine)
    await end(old, engine)
    await Forgetter(engine, Records(engine, ingest.blobs), kept=3600).round()
    assert len(await said(old, engine)) == 2
    await Forgetter(engine, Records(engine, ingest.blobs), kept=-5).round()
    assert [data for data, _ in await said(old, engine)] == [ENDED.encode()]
    assert len(await said(young, engine)) == 1


async def test_a_busy_service_forgets_what_grows_old(ingest: Ingest, who: Who, engine: Bus) -> None:
    """However often the bell rings for others, a session that was too young at its end is looked at again."""
    records = Records(engine, ingest.blobs)
    await Forgetter(engine, records, kept=-5).round()  # nothing of other tests is left to look at
    record = await session_of(ingest, who, engine)
    await end(record, engine)
    looks = iter([time.time()])
    forgetter = Forgetter(engine, records, every=0.5, clock=lambda: next(looks, time.time() + 7 * 3600))
    async with forgetting(forgetter, ingest):
        await left_alone(record, engine)


async def test_an_erasure_outlives_an_outage(ingest: Ingest, who: Who, engine: Bus, stack: Stack) -> None:
    """What could not be looked at while the store was away is looked at when it is back, whoever rings meanwhile."""
    records, looked = Records(engine, ingest.blobs), asyncio.Event()
    await Forgetter(engine, records, kept=-5).round()
    record = await session_of(ingest, who, engine)
    await end(record, engine)
    await ingest.complete(record)
    await ingest.eraser.erase(who.tenant, record.job)
    await ingest.bus.kv(subjects.RECORDS).delete(subjects.record(who.tenant, record.job))  # now the store has to say it

    def clock() -> float:
        looked.set()
        return time.time()

    store = stack.process("s3")
    await store.stop()
    async with forgetting(Forgetter(engine, records, clock=clock), ingest):
        await looked.wait()
        store.start()
        await store.wait_ready()
        await left_alone(record, engine)
