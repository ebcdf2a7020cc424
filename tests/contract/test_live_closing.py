"""How sessions end, on a real bus and store without an engine: what an engine that comes late may still do."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import Claims as Who
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, Options
from services.contracts.live import OFFSET, OP, LiveOptions, Op, Session
from services.ingest.asked import Asked, ask_of, manifest_of
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import read_last
from services.runtime.kv import Conflict
from services.runtime.metrics import Metrics
from services.runtime.records import fresh
from services.transcriber.assemble import Assembler
from services.transcriber.live.closing import Closing, End
from services.transcriber.live.load import Load
from services.transcriber.live.recover import past_of
from services.transcriber.live.session import LiveSession
from services.transcriber.meters import Meters
from services.transcriber.prepare.media import Limits
from services.transcriber.prepare.sandbox import Sandbox
from services.transcriber.recent import Recent
from tests.contract.ingest_support import Ingest
from tests.engine_support import engine_of
from tests.support import operator_of


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    """May do what engines do."""
    async with connect_bus(operator_of(stack)) as operator:
        yield operator


@pytest.fixture
def closing(ingest: Ingest, bus: Bus) -> Closing:
    """What ends sessions."""
    assembler = Assembler(bus, ingest.blobs, ingest.records, Recent(), Meters(Metrics()))
    return Closing(bus, ingest.blobs, ingest.records, assembler)


async def begun(ingest: Ingest, who: Who) -> Session:
    """A session as the door leaves it, with its job."""
    job = new_job_id()
    asked = await ask_of(who, Asked(Options(model="base")))()
    manifest = manifest_of(who, job, asked, Door.LIVE, Lane.LIVE, "", 0, None)
    await ingest.blobs.put_once(objects.manifest(who.tenant, job), manifest.encode())
    await ingest.records.create(fresh(manifest))
    return Session(
        session=job,
        tenant=who.tenant,
        options=manifest.options,
        live=LiveOptions(),
        opened=time.time(),
        max_seconds=3600.0,
    )


async def sent(bus: Bus, session: Session) -> int:
    """A second of audio; the sequence of the last message."""
    last = 0
    for n in range(10):
        last = await bus.append(subjects.live_audio(session.session), bytes(3200), last, {OFFSET: str(n * 3200)})
    return last


async def test_a_recording_is_what_was_acknowledged(ingest: Ingest, bus: Bus, who: Who, closing: Closing) -> None:
    """A session that is ended here takes nothing in any more, and its recording has all that it took."""
    session = await begun(ingest, who)
    last = await sent(bus, session)
    assert await closing.close(session, End((), 1.0, None, None)) == "completed"
    with pytest.raises(Conflict):
        await bus.append(subjects.live_audio(session.session), bytes(3200), last, {OFFSET: "32000"})
    stat = await ingest.blobs.stat(objects.source(who.tenant, session.session))
    assert stat is not None
    assert stat.size == 44 + 32_000


async def test_a_sleeper_writes_no_recording(ingest: Ingest, bus: Bus, who: Who, closing: Closing) -> None:
    """Who wakes when another has ended the session, and taken its sound off the bus, leaves the recording alone."""
    session = await begun(ingest, who)
    last = await sent(bus, session)
    rolled = {OFFSET: "32000", OP: Op.END, "Nats-Rollup": "sub"}
    await bus.append(subjects.live_audio(session.session), b"", last, rolled)
    with pytest.raises(Conflict):
        await closing.close(session, End((), 1.0, None, None))
    assert await ingest.blobs.stat(objects.source(who.tenant, session.session)) is None


async def test_who_comes_after_the_outcome_says_only_that(
    ingest: Ingest, bus: Bus, who: Who, closing: Closing, tmp_path: Path
) -> None:
    """Where an engine died between the outcome and its last word, the next one says that word and hears nothing."""
    session = await begun(ingest, who)
    await sent(bus, session)
    await closing.close(session, End((), 1.0, None, None, peaks=b"drawn"))
    async with engine_of(tmp_path, "digest") as engine:
        await LiveSession(bus, Sandbox(Limits()), engine, closing, Load(1, None), session, "late").run()
    past = await past_of(bus.nc, session.session)
    assert past.ended is not None
    assert (past.ended.state, past.ended.duration, past.finals) == ("completed", 1.0, [])
    said = await bus.counts(subjects.LIVE, subjects.live_out(session.session))
    assert said == {subjects.live_out(session.session): 1}
    assert await read_last(bus.nc, subjects.LIVE, subjects.live_done(session.session)) is not None
