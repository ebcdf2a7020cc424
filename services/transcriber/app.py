"""The composition root of the transcriber: everything is made here, in order, and taken down in reverse."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.contracts import subjects
from services.runtime.blobs import Blobs, open_blobs
from services.runtime.bus import Bus, connect_bus
from services.runtime.health import Health, ops_server
from services.runtime.lifecycle import Life, Tasks
from services.runtime.metrics import Metrics
from services.runtime.patience import until_there
from services.runtime.puller import Puller
from services.runtime.records import Records
from services.transcriber.assemble import Assembler
from services.transcriber.card import Announcer
from services.transcriber.ear import PartEar
from services.transcriber.engine.opening import open_engine
from services.transcriber.engine.process import EngineProcess
from services.transcriber.forget import Forgetter
from services.transcriber.fresh import Fresh
from services.transcriber.hands import Hands
from services.transcriber.live.closing import Closing
from services.transcriber.live.load import Load
from services.transcriber.live.session import LiveSession
from services.transcriber.live.sessions import Sessions
from services.transcriber.live.waveforms import Waveforms
from services.transcriber.loops import PartLoop, PrepareLoop
from services.transcriber.meters import Meters
from services.transcriber.prepare.cut import Cutter
from services.transcriber.prepare.media import Limits
from services.transcriber.prepare.prepare import Preparer
from services.transcriber.prepare.publish import Publisher
from services.transcriber.prepare.sandbox import Sandbox
from services.transcriber.prepare.sources import Sources
from services.transcriber.rate import Rate
from services.transcriber.recent import Recent
from services.transcriber.settings import TranscriberSettings
from services.transcriber.slots import Slots
from services.transcriber.worker import PartWorker


@asynccontextmanager
async def transcriber(settings: TranscriberSettings, life: Life) -> AsyncIterator[None]:
    """Ready when entered: connected, sandbox warm, card announced, both loops running. Drained when left."""
    async with AsyncExitStack() as stack:
        metrics, health = Metrics(), Health()
        bus = await stack.enter_async_context(connect_bus(settings))
        blobs = await stack.enter_async_context(open_blobs(settings))
        sandbox = Sandbox(Limits(max_seconds=settings.max_audio_seconds), allow_weak=settings.allow_weak_sandbox)
        engine = await stack.enter_async_context(open_engine(settings, blobs))
        meters = Meters(metrics)
        rate = Rate(engine.slots, meters)
        name = secrets.token_hex(6)
        records = Records(bus, blobs)
        recent = Recent()
        assembler = Assembler(bus, blobs, records, recent, meters)
        waveforms = Waveforms(blobs, records, sandbox)
        closing = Closing(bus, blobs, records, assembler, waveforms)
        load = Load(engine.slots, settings.live_sessions)
        sessions = Sessions(
            bus, load, name, lambda session: LiveSession(bus, sandbox, engine, closing, load, session, name), engine
        )
        early = await stack.enter_async_context(Tasks(life.died))
        early.start(sessions.warm(), name="warm")
        await sandbox.start()
        stack.push_async_callback(sandbox.close)
        await until_there(bus.ensure_streams)
        await until_there(lambda: blobs.check_conditional("probe/transcriber"))
        announcer = Announcer(
            bus,
            engine,
            rate,
            sessions.card,
            name=name,
            device=engine.device,
            kind=settings.engine,
            sandbox=sandbox.level,
        )
        await until_there(announcer.announce)
        stack.push_async_callback(announcer.withdraw)
        health.add("bus", bus.ping)
        health.add("store", blobs.ping)
        await stack.enter_async_context(ops_server(settings.ops_port, health, metrics))
        await stack.enter_async_context(bus.serve(subjects.TRANSCRIBER_SERVICE))
        tasks = await stack.enter_async_context(Tasks(life.died))
        tasks.start(announcer.run(), name="announce")
        await _work(stack, settings, bus, blobs, records, assembler, engine, sandbox, rate, recent, load, meters, tasks)
        tasks.start(sessions.run(), name="live sessions")
        tasks.start(waveforms.run(), name="draw waveforms")
        tasks.start(Forgetter(bus, records).run(), name="forget sessions")
        yield


async def _work(
    stack: AsyncExitStack,
    settings: TranscriberSettings,
    bus: Bus,
    blobs: Blobs,
    records: Records,
    assembler: Assembler,
    engine: EngineProcess,
    sandbox: Sandbox,
    rate: Rate,
    recent: Recent,
    load: Load,
    meters: Meters,
    tasks: Tasks,
) -> None:
    slots = Slots(engine.slots, engine.express, lambda: load.busy)
    meters.waiting.set_function(lambda: slots.waiting)
    meters.engine.set_function(lambda: engine.pid is not None)

    def cutter(vad: bool, bound: tuple[tuple[int, int, int], ...]) -> Cutter:
        return Cutter(
            shortest=settings.part_seconds_min,
            longest=settings.part_seconds_max,
            first=settings.part_seconds_first,
            vad=vad,
            bound=bound,
        )

    limits = {"max_crashes": settings.max_crashes, "max_starts": settings.max_starts}
    fresh = Fresh()
    sources, publisher = Sources(blobs, records), Publisher(bus, blobs, records, fresh)
    preparer = Preparer(blobs, records, assembler, sandbox, sources, publisher, recent, cutter, **limits)
    ear = PartEar(blobs, records, engine, slots, rate, max_crashes=settings.max_crashes)
    worker = PartWorker(bus, blobs, records, assembler, ear, fresh, recent, **limits)

    jobs = Puller(bus, subjects.JOBS, lambda _: 1.0, settings.ack_wait)
    parts = Puller(bus, subjects.PARTS, lambda data: float(json.loads(data)["seconds"]), settings.ack_wait)
    job_hands, part_hands = Hands(bus, jobs, meters), Hands(bus, parts, meters)
    for listener in (jobs, parts, job_hands, part_hands):
        await stack.enter_async_context(listener.listening())
    prepare_loop = PrepareLoop(
        bus,
        jobs,
        job_hands,
        preparer,
        tasks,
        small=settings.small_source_bytes,
        parts_per_tenant=settings.waiting_parts_per_tenant,
        pcm_bytes=settings.waiting_pcm_bytes,
        part_seconds=settings.part_seconds_max,
    )
    part_loop = PartLoop(parts, part_hands, worker, slots, tasks, jobs.bell)
    tasks.start(jobs.watch(), name="watch jobs")
    tasks.start(parts.watch(), name="watch parts")
    tasks.start(prepare_loop.run(), name="prepare loop")
    tasks.start(part_loop.run(), name="part loop")
