"""Words of live sessions on the bus, and when they leave it: with the rights of a transcriber on a real bus."""

from collections.abc import AsyncIterator

import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import Claims as Who
from services.contracts.events import Record
from services.contracts.jobs import Door, Lane, State
from services.contracts.live import Ended, LiveOptions, Quiet, Session
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import read_batch
from services.runtime.records import Records
from services.transcriber.forget import Forgetter
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
