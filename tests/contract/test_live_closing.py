"""How sessions end, on a real bus and store without an engine: what ends none, and what who comes late may do."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg

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
from services.runtime.lifecycle import cancel
from services.runtime.metrics import Metrics
from services.runtime.records import fresh
from services.transcriber.assemble import Assembler
from services.transcriber.live.closing import Closing, End, Over
from services.transcriber.live.load import Load
from services.transcriber.live.minutes import Minutes
from services.transcriber.live.recover import past_of
from services.transcriber.live.session import LiveSession
from services.transcriber.live.waveforms import Waveforms
from services.transcriber.meters import Meters
from services.transcriber.prepare.media import Limits
from services.transcriber.prepare.peaks import Peaks
from services.transcriber.prepare.sandbox import Sandbox
from services.transcriber.recent import Recent
from tests.contract.ingest_support import Ingest
from tests.engine_support import engine_of
from tests.media import tone
from tests.support import operator_of


@pytest.fixture
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    """May do what engines do."""
    async with connect_bus(operator_of(stack)) as operator:
        yield operator


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Starts when it is first needed."""
    sandbox = Sandbox(Limits())
    yield sandbox
    await sandbox.close()


@pytest.fixture
def waveforms(ingest: Ingest, sandbox: Sandbox) -> Waveforms:
    """What draws them, when it runs."""
    return Waveforms(ingest.blobs, ingest.records, sandbox)


@pytest.fixture
def closing(ingest: Ingest, bus: Bus, waveforms: Waveforms) -> Closing:
    """What ends sessions."""
    assembler = Assembler(bus, ingest.blobs, ingest.records, Recent(), Meters(Metrics()))
    return Closing(bus, ingest.blobs, ingest.records, assembler, waveforms)


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


async def sent(bus: Bus, session: Session, sound: bytes = bytes(32_000)) -> int:
    """Audio, silence if nothing else; the sequence of the last message."""
    last = 0
    for at in range(0, len(sound), 3200):
        piece = sound[at : at + 3200]
        last = await bus.append(subjects.live_audio(session.session), piece, last, {OFFSET: str(at)})
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
    ingest: Ingest, bus: Bus, who: Who, closing: Closing, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Where an engine died between the outcome and its last word, the next one says that word and hears nothing."""
    session = await begun(ingest, who)
    await sent(bus, session)
    await closing.close(session, End((), 1.0, None, None, peaks=b"drawn"))
    async with engine_of(tmp_path, "digest") as engine:
        await LiveSession(bus, sandbox, engine, closing, Load(1, None), session, "late").run()
    past = await past_of(bus.nc, session.session)
    assert past.ended is not None
    assert (past.ended.state, past.ended.duration, past.finals) == ("completed", 1.0, [])
    said = await bus.counts(subjects.LIVE, subjects.live_out(session.session))
    assert said == {subjects.live_out(session.session): 1}
    assert await read_last(bus.nc, subjects.LIVE, subjects.live_done(session.session)) is not None


async def asked_of_keys(bus: Bus) -> list[Msg]:
    """Fills with every question whether a quota holds, from now on."""
    asked: list[Msg] = []

    async def take(message: Msg) -> None:
        asked.append(message)

    await bus.nc.subscribe(subjects.KEYS_RESERVE, cb=take)
    await bus.nc.flush()
    return asked


async def test_who_speaks_waits_once_for_keys(ingest: Ingest, bus: Bus, who: Who, stack: Stack) -> None:
    """While keys hangs it is asked now and then, and not at every word."""
    session = await begun(ingest, who)
    asked, minutes = await asked_of_keys(bus), Minutes(bus, session)
    stack.process("keys").kill(signal.SIGSTOP)
    try:
        for seconds in (1.0, 2.0, 3.0):
            await minutes.reserve(seconds)
    finally:
        stack.process("keys").kill(signal.SIGCONT)
    assert len(asked) == 1


async def test_an_account_that_is_gone_ends_no_session(ingest: Ingest, bus: Bus, who: Who) -> None:
    """Keys that do not know a tenant are asked again after a while; only a quota that is used up ends a session."""
    session = await begun(ingest, who)
    asked, gone = await asked_of_keys(bus), session.model_copy(update={"tenant": "a" * 16})
    for minutes in (Minutes(bus, gone), Minutes(bus, gone, later=0.0)):
        await minutes.reserve(1.0)
        await minutes.reserve(2.0)
    assert len(asked) == 1 + 2

    async def refused() -> None:
        while True:  # keys may not answer in time
            await Minutes(bus, session).reserve(1e9)

    with pytest.raises(Over):
        await refused()


async def test_nobody_waits_for_a_waveform(
    ingest: Ingest, bus: Bus, who: Who, closing: Closing, waveforms: Waveforms, sandbox: Sandbox, tmp_path: Path
) -> None:
    """A session without one has ended, and holds no place, before it is drawn: from the recording, whole."""
    session, sound = await begun(ingest, who), tone(2.0).tobytes()
    await sent(bus, session, sound)
    await closing.close(session, End((), 2.0, None, None))
    async with engine_of(tmp_path, "digest") as engine:
        await LiveSession(bus, sandbox, engine, closing, Load(1, None), session, "second").run()
    peaks = objects.peaks(who.tenant, session.session)
    assert await read_last(bus.nc, subjects.LIVE, subjects.live_done(session.session)) is not None
    assert await ingest.blobs.stat(peaks) is None
    drawing = asyncio.create_task(waveforms.run())
    try:
        async with asyncio.timeout(60):
            while await ingest.blobs.stat(peaks) is None:
                await asyncio.sleep(0.05)
    finally:
        await cancel(drawing)
    drawn = Peaks()
    drawn.feed(sound)
    assert await ingest.blobs.get(peaks) == drawn.close()


async def test_nothing_is_drawn_of_an_erased_session(
    ingest: Ingest, bus: Bus, who: Who, closing: Closing, waveforms: Waveforms
) -> None:
    """Its turn comes after others', and its owner may not wait for that."""
    erased, other = await begun(ingest, who), await begun(ingest, who)
    for session in (erased, other):
        await sent(bus, session)
        await closing.close(session, End((), 1.0, None, None))
        closing.draw(session)
    await ingest.eraser.erase(who.tenant, erased.session)
    drawing = asyncio.create_task(waveforms.run())
    try:
        async with asyncio.timeout(60):
            while await ingest.blobs.stat(objects.peaks(who.tenant, other.session)) is None:
                await asyncio.sleep(0.05)
    finally:
        await cancel(drawing)
    assert await ingest.stored(who.tenant, erased.session) == ["outcome.json"]
