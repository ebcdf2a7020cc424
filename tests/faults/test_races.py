"""Two that do the same at the same moment: there is one outcome, one transcript, and everything agrees on it."""

import asyncio
import hashlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.contracts import objects, subjects
from services.contracts.events import Record, SegmentsEvent
from services.contracts.ids import new_job_id, new_tenant
from services.contracts.jobs import Door, Lane, Manifest, Options, State
from services.contracts.parts import Part, PartWords, PartWork, Plan
from services.contracts.transcript import Segment, Word
from services.runtime.bus import connect_bus
from services.runtime.metrics import Metrics
from services.runtime.records import Records, fresh
from services.transcriber.assemble import Assembler
from services.transcriber.ear import PartEar
from services.transcriber.engine.opening import open_engine
from services.transcriber.fresh import Fresh
from services.transcriber.meters import Meters
from services.transcriber.rate import Rate
from services.transcriber.recent import Recent
from services.transcriber.settings import TranscriberSettings
from services.transcriber.slots import Slots
from services.transcriber.worker import PartWorker
from tests.faults.checker import check_completed, check_ended
from tests.faults.conftest import Recording
from tests.faults.support import Service, Tenant, until
from tests.support import operator_of

ROUNDS = 25
SECOND = 16_000


async def almost_done(service: Service, parts: int = 2) -> Record:
    """A job that is sealed and whose words are all stored; nobody has set a bit."""
    tenant, job = new_tenant(), new_job_id()
    manifest = Manifest(
        job=job,
        tenant=tenant,
        key_id="",
        user="",
        door=Door.HTTP,
        lane=Lane.INTERACTIVE,
        options=Options(model="base", language="en"),
        sha256="",
        size=0,
        created=0.0,
    )
    await service.blobs.put_once(objects.manifest(tenant, job), manifest.encode())
    for n in range(parts):
        word = Word(word=f" {n}", start=n, end=n + 1, probability=1)
        segment = Segment(start=n, end=n + 1, text=word.word, words=(word,))
        words = PartWords(n=n, segments=(segment,), transcribed=((n, n + 1),))
        part = Part(n=n, start=n * SECOND, end=(n + 1) * SECOND, sha256="", speech=((n, n + 1),))
        await service.blobs.put_once(objects.part_meta(tenant, job, n), part.encode())
        await service.blobs.put_once(objects.words(tenant, job, n), words.encode())
    await service.blobs.put_once(objects.plan(tenant, job), Plan(parts=parts, duration=parts).encode())
    record = fresh(manifest).model_copy(update={"parts": parts, "sealed": True, "state": State.RUNNING})
    assert await service.records.create(record)
    return record


@asynccontextmanager
async def part_worker(settings: TranscriberSettings, service: Service) -> AsyncIterator[PartWorker]:
    """A transcriber's worker on a connection of its own; its engine is never asked."""
    async with connect_bus(settings) as bus, open_engine(settings) as engine:
        meters, records = Meters(Metrics()), Records(bus, service.blobs)
        recent = Recent()
        assembler = Assembler(bus, service.blobs, records, recent, meters)
        limits = {"max_crashes": settings.max_crashes, "max_starts": settings.max_starts}
        ear = PartEar(service.blobs, records, engine, Slots(1, 0), Rate(1, meters), max_crashes=settings.max_crashes)
        yield PartWorker(bus, service.blobs, records, assembler, ear, Fresh(), recent, **limits)


async def test_two_transcribers_finish_the_last_parts_together(service: Service) -> None:
    """However closely two set the last two bits, the job is assembled, and has one outcome that all agree on."""
    settings = TranscriberSettings(engine="digest", **operator_of(service.stack).model_dump(exclude={"log_level"}))
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(part_worker(settings, service)) for _ in range(2)]
        for _ in range(ROUNDS):
            record = await almost_done(service)
            options = Options(model="base", language="en")
            works = [PartWork(job=record.job, tenant=record.tenant, n=n, seconds=1, options=options) for n in range(2)]
            await asyncio.gather(
                *(worker.transcribe(work, (1, 0), lambda: None) for worker, work in zip(workers, works, strict=True))
            )
            evidence = await service.evidence(record.tenant, record.job)
            assert evidence.outcome.state == State.COMPLETED
            check_ended(evidence)
            assert evidence.outcome.sha256 == hashlib.sha256(evidence.transcript or b"").hexdigest()


@pytest.mark.parametrize(("told_parts", "within"), [(3, 0.03), (0, 0.8)], ids=["completion", "preparing"])
async def test_cancelled_at_any_moment(
    service: Service, recording: Recording, like: bytes, told_parts: int, within: float
) -> None:
    """A cancellation that races with the last part, or a prepare, wins or loses, and everything agrees on which."""
    ends: Counter[str] = Counter()
    chance = random.Random(1)

    async def race() -> None:
        me = await service.sign_up()
        told = asyncio.Queue[str]()

        async def hear(message: object) -> None:
            told.put_nowait("part")

        ear = await service.bus.nc.subscribe(f"{subjects.RELAY}.results.{me.tenant}.*.segments", cb=hear)
        job = await me.submit(recording.data)
        for _ in range(told_parts):
            await asyncio.wait_for(told.get(), 60)
        await asyncio.sleep(chance.uniform(0, within))
        await me.cancel(job)
        await ear.unsubscribe()
        evidence = await service.evidence(me.tenant, job)
        ends[evidence.record.state] += 1
        check_ended(evidence)
        if evidence.record.state == State.COMPLETED:
            check_completed(evidence, recording.samples, like)
        elif evidence.record.state == State.ERASED:
            await until(lambda: nothing_but_the_tombstone(service, me, job), "something of an erased job was left")
        else:
            assert evidence.record.state == State.CANCELLED
            assert (evidence.record.seconds or 0) <= evidence.record.audio_done

    for _ in range(ROUNDS // 5):
        await asyncio.gather(*(race() for _ in range(5)))
    assert sum(ends.values()) == ROUNDS // 5 * 5


async def nothing_but_the_tombstone(service: Service, me: Tenant, job: str) -> bool:
    """Whether all that is left of a job is the fact that it was."""
    return await service.stored(me.tenant, job) == {"outcome.json"}


async def test_a_zombie_changes_nothing(service: Service, recording: Recording, like: bytes) -> None:
    """A transcriber that hangs with a part in hand for longer than it may, and then goes on, says the same again."""
    first = service.stack.process("transcriber")
    # Its engine is heard on while it hangs: slow, so that the job is not over before it does, and for nothing else.
    await first.restart({"DESIFRE_DIGEST_SPEED": "4"})
    me = await service.sign_up()
    job = await me.submit(recording.data)
    await until(lambda: engine_works(service, "transcriber"), "it never began")
    first.kill(signal.SIGSTOP)
    other = await service.stack.add("transcriber")
    try:
        view = await me.ended(job)
        assert view["state"] == "completed"
        first.kill(signal.SIGCONT)
        await until(lambda: was_told_twice(service, me, job), "the zombie never spoke")
        await service.stack.wait_all_ready()
        check_completed(await service.evidence(me.tenant, job), recording.samples, like)
    finally:
        await other.stop()
        await first.restart()


async def engine_works(service: Service, name: str) -> bool:
    """Whether this transcriber's engine was started, which only a part with its samples in hand does."""
    port = service.stack.process(name).spec.ready_port
    async with service.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return "engine_running 1" in await answer.text()


async def was_told_twice(service: Service, me: Tenant, job: str) -> bool:
    """Whether the words of a part have become an event more than once."""
    told = Counter(event.part for event in await service.events(me.tenant, job) if isinstance(event, SegmentsEvent))
    return any(times > 1 for times in told.values())


async def test_a_prepare_that_cuts_otherwise(service: Service, recording: Recording) -> None:
    """A prepare killed in the middle and repeated with another part length keeps the cuts that are stored."""
    transcriber = service.stack.process("transcriber")
    longer = {"DESIFRE_PART_SECONDS_FIRST": "24", "DESIFRE_PART_SECONDS_MIN": "24", "DESIFRE_PART_SECONDS_MAX": "40"}
    await transcriber.restart(longer)
    me = await service.sign_up()
    run = service.arm("transcriber", "put:part:after")
    job = await me.submit(recording.data)
    assert await transcriber.wait_exit(run) == 137
    before = await service.records.parts(me.tenant, job)
    # The next prepare may have gone on with it already.
    assert before[0].seconds > 20, "it was to be longer than any first part of the next prepare"
    await me.ended(job)
    after = await service.records.parts(me.tenant, job)
    assert {n: after[n] for n in before} == before
    assert len(after) > 1
    check_completed(await service.evidence(me.tenant, job), recording.samples)
