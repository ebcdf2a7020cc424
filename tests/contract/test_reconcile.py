"""The reconciler and the sweep on a real bus and store: whatever is lost of the bus, no job is."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import Claims as Who
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, State
from services.ingest.reconcile import Pace
from services.ingest.sweep import Sweep
from services.runtime.bus import Bus, connect_bus
from services.runtime.lifecycle import cancel
from services.runtime.multipart import PART
from services.runtime.records import RETENTION
from tests.contract.ingest_support import (
    AT_ONCE,
    NEVER,
    Ingest,
    delete_and_die,
    ended,
    open_ingest,
    pieces,
    settings_of,
)


@pytest.fixture(scope="module")
async def admin(stack: Stack) -> AsyncIterator[Bus]:
    """The operator on the bus, who may delete things."""
    login = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
    async with connect_bus(settings_of(stack).model_copy(update=login)) as bus:
        yield bus


@pytest.fixture
async def ingest(stack: Stack) -> AsyncIterator[Ingest]:
    async with open_ingest(settings_of(stack)) as ingest:
        yield ingest


@pytest.fixture
async def record(ingest: Ingest) -> Record:
    """A job that was just admitted, of a new tenant."""
    who = await ingest.sign_up()
    return (await ingest.receive(who, b"speech")).record


async def take_away(admin: Bus, record: Record) -> None:
    """Remove every message of this tenant's jobs and parts."""
    for stream, pattern in (
        (subjects.JOBS, f"jobs.*.{record.tenant}.>"),
        (subjects.PARTS, f"parts.*.{record.tenant}.>"),
    ):
        await admin.js.purge_stream(stream, subject=pattern)


async def delete_everything(admin: Bus) -> None:
    """Remove every stream and bucket of the bus."""
    for stream in subjects.STREAMS:
        await admin.js.delete_stream(stream)


async def test_a_job_without_a_message_is_put_back(ingest: Ingest, admin: Bus, record: Record) -> None:
    """A job that stands still without a message is offered again; one that moves, or is young, is left alone."""
    await take_away(admin, record)
    patient = ingest.reconciler(NEVER)
    await patient.round()
    await patient.round()
    assert await ingest.queued(record.tenant) == []
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == [record.job]
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == [record.job]


async def test_a_job_stalls_by_the_reconcilers_own_clock(ingest: Ingest, admin: Bus, record: Record) -> None:
    """The time a record has stood still counts from when its revision was first seen, whatever its own times say."""
    await take_away(admin, record)
    now = 0.0
    reconciler = ingest.reconciler(NEVER)
    reconciler._clock = lambda: now
    await reconciler.round()
    now = NEVER.stalled_after - 1
    preparing = {"state": State.PREPARING}
    await ingest.records.change(record.tenant, record.job, lambda r: r.model_copy(update=preparing))
    await reconciler.round()
    now = NEVER.stalled_after + 1
    await reconciler.round()
    assert await ingest.queued(record.tenant) == []
    now = 2 * NEVER.stalled_after
    await reconciler.round()
    assert await ingest.queued(record.tenant) == [record.job]


async def test_missing_parts_are_put_back(ingest: Ingest, admin: Bus, record: Record) -> None:
    """Of a sealed job the parts that are not done are offered again, unless one of them is still on the bus."""
    await ingest.cut(record, parts=4)
    await take_away(admin, record)
    done = {"done": "5"}
    await ingest.records.change(record.tenant, record.job, lambda r: r.model_copy(update=done))
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == [f"{record.job}.1", f"{record.job}.3"]
    await admin.js.purge_stream(subjects.PARTS, subject=subjects.part(record.lane, record.tenant, record.job, 1))
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == [f"{record.job}.3"]


@pytest.mark.parametrize("lost", ["words of none", "a part", "the seal"])
async def test_a_prepare_comes_where_parts_cannot_do_it(ingest: Ingest, admin: Bus, record: Record, lost: str) -> None:
    """A complete job without an outcome, and a sealed one that a power cut took a part or the seal of, is prepared."""
    await ingest.cut(record, parts=2)
    await take_away(admin, record)
    if lost == "words of none":
        await ingest.records.change(record.tenant, record.job, lambda r: r.model_copy(update={"done": "3"}))
    elif lost == "a part":
        await ingest.blobs.delete([objects.part_meta(record.tenant, record.job, 1)])
    else:
        await ingest.blobs.delete([objects.plan(record.tenant, record.job)])
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == [record.job]
    found = await ingest.records.get(record.tenant, record.job)
    assert found is not None
    assert found.sealed == (lost != "the seal")


async def test_a_record_behind_its_outcome_is_mended(ingest: Ingest, admin: Bus, record: Record) -> None:
    """An outcome that was written by a process which died then ends the job, and nothing is put on the bus."""
    await take_away(admin, record)
    outcome = ended(record, State.CANCELLED, seconds=3.0)
    await ingest.blobs.put_once(objects.outcome(record.tenant, record.job), outcome.encode())
    await ingest.reconciler(AT_ONCE).round()
    found = await ingest.records.get(record.tenant, record.job)
    assert found is not None
    assert (found.state, found.seconds) == (State.CANCELLED, 3.0)
    assert await ingest.queued(record.tenant) == []


async def test_live_jobs_are_left_to_their_lease(ingest: Ingest, admin: Bus, record: Record) -> None:
    """A job of the live lane is not touched, however long it stands still."""
    await take_away(admin, record)
    await ingest.records.change(record.tenant, record.job, lambda r: r.model_copy(update={"lane": Lane.LIVE}))
    await ingest.reconciler(AT_ONCE).round()
    assert await ingest.queued(record.tenant) == []


async def test_a_deleted_bus_costs_no_job(ingest: Ingest, admin: Bus) -> None:
    """When every stream and bucket is deleted, a running reconciler brings back what was unfinished and that alone."""
    who = await ingest.sign_up()
    waiting, cut, completed, cancelled, erased = [
        (await ingest.receive(who, f"speech {n}".encode())).record for n in range(5)
    ]
    await ingest.cut(cut, parts=2)
    await ingest.complete(completed)
    await ingest.complete(erased)
    for record in (cancelled, erased):
        await ingest.jobs.cancel_or_erase(who.tenant, record.job)
    reconcilers = [ingest.reconciler(NEVER), ingest.reconciler(NEVER)]
    for reconciler in reconcilers:
        await reconciler.round()
    await delete_everything(admin)
    await asyncio.gather(*(reconciler.round() for reconciler in reconcilers))
    assert await ingest.queued(who.tenant) == sorted([waiting.job, f"{cut.job}.0", f"{cut.job}.1"])
    states = {record.job: record.state for record in (await ingest.jobs.page(who.tenant)).records}
    assert states == {
        waiting.job: State.ACCEPTED,
        cut.job: State.PREPARING,
        completed.job: State.COMPLETED,
        cancelled.job: State.CANCELLED,
    }
    assert (await ingest.jobs.transcript(who.tenant, completed.job)).job == completed.job


async def test_an_admission_after_a_deleted_bus_gets_the_old_job(ingest: Ingest, admin: Bus, record: Record) -> None:
    """A repeat of a finished job whose record and message were lost does not begin it anew."""
    who = Who(tenant=record.tenant, key_id=record.key_id, username="u", scopes=())
    await ingest.complete(record)
    await take_away(admin, record)
    await admin.js.purge_stream(subjects.KV_RECORDS)
    repeat = await ingest.receive(who, b"speech")
    assert (repeat.record.job, repeat.record.state) == (record.job, State.COMPLETED)
    assert await ingest.queued(record.tenant) == []


@pytest.mark.parametrize("failpoint", ["put:outcome:after", "cas:records:before", "cas:records:after"])
async def test_an_interrupted_cancellation_holds(
    stack: Stack, ingest: Ingest, admin: Bus, record: Record, failpoint: str
) -> None:
    """A cancellation that died after its outcome was written ends the job, and a late completion changes nothing."""
    await delete_and_die(stack, failpoint, record)
    await take_away(admin, record)
    await ingest.reconciler(AT_ONCE).round()
    assert (await ingest.jobs.get(record.tenant, record.job)).state == State.CANCELLED
    assert (await ingest.complete(record)).state == State.CANCELLED
    assert await ingest.queued(record.tenant) == []


@pytest.mark.parametrize(
    "failpoint", ["cas:records:after", "put:outcome:before", "put:outcome:after", "delete:job:before"]
)
async def test_an_interrupted_erasure_goes_on(stack: Stack, ingest: Ingest, record: Record, failpoint: str) -> None:
    """An erasure that died half-way is completed without a repeat, and what an engine writes late is removed too."""
    await ingest.complete(record)
    await delete_and_die(stack, failpoint, record)
    reconciler = ingest.reconciler(AT_ONCE)
    await reconciler.round()
    assert await ingest.stored(record.tenant, record.job) == ["outcome.json"]
    found = await ingest.records.outcome(record.tenant, record.job)
    assert found is not None
    assert found.state == State.ERASED
    await ingest.blobs.put(objects.words(record.tenant, record.job, 0), b"late")
    await reconciler.round()
    assert await ingest.stored(record.tenant, record.job) == ["outcome.json"]


async def test_the_sweep_takes_what_is_old_and_no_job(ingest: Ingest, record: Record) -> None:
    """A recording without job.json goes once it is old; a young one, a job and a tombstone stay."""
    orphan, tombstone = new_job_id(), new_job_id()
    await ingest.blobs.put(objects.source(record.tenant, orphan), b"x")
    await ingest.blobs.put(objects.outcome(record.tenant, tombstone), ended(record, State.ERASED).encode())
    await ingest.blobs.put(objects.words(record.tenant, tombstone, 3), b"late")
    await ingest.sweep(after=60).round(everything=True)
    assert await ingest.stored(record.tenant, orphan) == ["source"]
    assert await ingest.stored(record.tenant, tombstone) == ["outcome.json"]
    await ingest.sweep(after=-5).round(everything=True)
    assert await ingest.stored(record.tenant, orphan) == []
    assert await ingest.stored(record.tenant, tombstone) == ["outcome.json"]
    assert sorted(await ingest.stored(record.tenant, record.job)) == ["job.json", "source"]
    assert await ingest.queued(record.tenant) == [record.job]


async def test_an_erased_recording_that_lies_in_the_bucket_stays_erased(ingest: Ingest, admin: Bus) -> None:
    """Its tombstone is all that keeps the bucket door from making a job of it again; others go after a month."""
    who = await ingest.sign_up()
    dropped = (await ingest.receive(who, b"dropped")).record
    manifest = await ingest.jobs.manifest(who.tenant, dropped.job)
    await ingest.blobs.put(
        objects.manifest(who.tenant, dropped.job), manifest.model_copy(update={"door": Door.DROP}).encode()
    )
    sent = (await ingest.receive(who, b"sent")).record
    for record in (dropped, sent):
        await ingest.complete(record)
        await ingest.eraser.erase(who.tenant, record.job)
        await ingest.eraser.erase(who.tenant, record.job)
        kept = subjects.kv(subjects.RECORDS, subjects.record(who.tenant, record.job))
        await admin.js.purge_stream(subjects.KV_RECORDS, subject=kept)  # as its time to live does
    sweep = Sweep(
        ingest.quota,
        ingest.blobs,
        ingest.records,
        after=3600,
        uploads_after=3600,
        clock=lambda: time.time() + RETENTION + 60,
    )
    await sweep.round(everything=True)
    assert await ingest.stored(who.tenant, dropped.job) == ["outcome.json"]
    assert await ingest.stored(who.tenant, sent.job) == []


async def test_a_damaged_job_does_not_hold_up_the_others(ingest: Ingest, admin: Bus, record: Record) -> None:
    """A job whose objects cannot be read is left as it is, and the others are put back and swept."""
    damaged, orphan = new_job_id(), new_job_id()
    await ingest.blobs.put(objects.manifest(record.tenant, damaged), b"no manifest")
    await ingest.blobs.put(objects.source(record.tenant, orphan), b"x")
    await ingest.blobs.put(objects.shared("0" * 64), b"no share")
    erased = (await ingest.receive(await ingest.sign_up(), b"erased")).record
    await ingest.complete(erased)
    await ingest.eraser.erase(erased.tenant, erased.job)
    await ingest.blobs.put(objects.outcome(erased.tenant, erased.job), b"no outcome")
    await take_away(admin, record)
    await ingest.reconciler(AT_ONCE, ingest.sweep(after=-5)).round()
    assert await ingest.stored(record.tenant, damaged) == ["job.json"]
    assert await ingest.stored(record.tenant, orphan) == []
    assert await ingest.queued(record.tenant) == [record.job]


async def test_unfinished_uploads_are_swept(ingest: Ingest) -> None:
    """A multipart upload that nobody finishes is aborted once it is older than any upload can be."""
    begun = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        async for piece in pieces(bytes(2 * PART)):
            yield piece
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(ingest.blobs.upload(objects.source("t" * 16, new_job_id()), hangs()), name="upload")
    await begun.wait()
    now = datetime.now(UTC).timestamp()
    assert await ingest.blobs.stale_uploads(datetime.fromtimestamp(now - 60, UTC)) == 0
    assert await ingest.blobs.stale_uploads(datetime.fromtimestamp(now + 60, UTC)) == 1
    assert await ingest.blobs.stale_uploads(datetime.fromtimestamp(now + 60, UTC)) == 0
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)


async def test_the_reconciler_waits_for_a_bus_that_is_away(
    stack: Stack, ingest: Ingest, admin: Bus, record: Record
) -> None:
    """Begun while the bus is down, it goes on by itself when the bus is back, and puts back what it finds."""
    await take_away(admin, record)
    bus = stack.process("nats")
    await bus.stop()
    pace = Pace(every=0.05, sweep_every=3600, stalled_after=0)
    task = asyncio.create_task(ingest.reconciler(pace).run(), name="reconciler")
    try:
        bus.start()
        await bus.wait_ready()
        async with open_ingest(settings_of(stack)) as other, asyncio.timeout(60):
            while await other.queued(record.tenant) != [record.job]:
                await asyncio.sleep(0.05)
        assert not task.done()
    finally:
        await cancel(task)
