"""What a tenant does with its jobs, on a real bus, store and keys service."""

import asyncio
import hashlib
import time

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import Claims as Who
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.ids import is_job_id, new_job_id
from services.contracts.jobs import Failure, State
from services.ingest import history
from services.runtime.bus import connect_bus
from services.runtime.records import RETENTION, fresh
from tests.contract.ingest_support import Ingest, ended, settings_of, transcript

DAY_MS = 86_400_000


async def refusal(ingest: Ingest, record: Record) -> Problem:
    """Why there is no transcript of this job."""
    with pytest.raises(Problem) as caught:
        await ingest.jobs.transcript(record.tenant, record.job)
    return caught.value


async def test_a_transcript_is_there_when_the_job_has_completed(ingest: Ingest, who: Who) -> None:
    """Before that the job is not finished; afterwards it is the one whose sum the outcome names, or none."""
    record = (await ingest.receive(who, b"speech")).record
    assert (await refusal(ingest, record)).code == Code.NOT_FINISHED
    await ingest.complete(record)
    assert await ingest.jobs.transcript(who.tenant, record.job) == transcript(record.job)
    await ingest.blobs.put(objects.transcript(who.tenant, record.job), transcript(new_job_id()).encode())
    assert (await refusal(ingest, record)).code == Code.INTERNAL


async def test_a_failed_job_says_why(ingest: Ingest, who: Who) -> None:
    """The refusal of a failed job's transcript carries the failure."""
    record = (await ingest.receive(who, b"noise")).record
    failure = Failure(code=Code.NOT_AUDIO, message="This is not audio.")
    await ingest.records.finish(ended(record, State.FAILED, failure=failure), who.tenant)
    problem = await refusal(ingest, record)
    assert (problem.code, problem.detail) == (Code.FAILED, failure.message)
    assert problem.body()["failure"] == failure.model_dump()


async def test_a_cancelled_job_costs_what_was_heard(stack: Stack, ingest: Ingest, who: Who) -> None:
    """Cancelling ends the job for good, charges the parts whose words exist, and tells the engines at once."""
    record = (await ingest.receive(who, b"speech")).record
    await ingest.cut(record, parts=3)
    done = {"done": "3", "audio_done": 4.0}
    await ingest.records.change(who.tenant, record.job, lambda r: r.model_copy(update=done))
    told: asyncio.Queue[str] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        told.put_nowait(message.subject)

    login = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
    async with connect_bus(settings_of(stack).model_copy(update=login)) as admin:
        await admin.nc.subscribe(subjects.cancel("*", "*"), cb=hear)
        await admin.nc.flush()
        cancelled = await ingest.jobs.cancel_or_erase(who.tenant, record.job)
        assert await asyncio.wait_for(told.get(), 60) == subjects.cancel(who.tenant, record.job)
    assert (cancelled.state, cancelled.seconds) == (State.CANCELLED, 4.0)
    assert cancelled.timings.finished is not None
    assert (await refusal(ingest, record)).code == Code.CANCELLED
    assert (await ingest.complete(record)).state == State.CANCELLED


async def test_cancelling_and_completing_at_once_have_one_winner(ingest: Ingest, who: Who) -> None:
    """Whichever outcome is written first holds, and the record and both callers agree with it."""
    for n in range(5):
        record = (await ingest.receive(who, f"speech {n}".encode())).record
        cancelled, completed = await asyncio.gather(
            ingest.jobs.cancel_or_erase(who.tenant, record.job), ingest.complete(record)
        )
        final = await ingest.jobs.get(who.tenant, record.job)
        assert cancelled.state == completed.state == final.state
        assert final.state in (State.CANCELLED, State.COMPLETED)


async def test_an_erased_job_leaves_its_name_alone(ingest: Ingest, who: Who) -> None:
    """Erasing removes everything but the tombstone, frees the quota, keeps the charge, and may be repeated."""
    record = (await ingest.receive(who, b"speech")).record
    await ingest.cut(record, parts=2)
    await ingest.complete(record)
    erased = await ingest.jobs.cancel_or_erase(who.tenant, record.job)
    assert erased.state == State.ERASED
    assert erased.sha256 is None
    assert await ingest.stored(who.tenant) == [f"{record.job}/outcome.json"]
    assert (await refusal(ingest, record)).code == Code.ERASED
    for look in (ingest.jobs.audio, ingest.jobs.manifest):
        with pytest.raises(Problem) as caught:
            await look(who.tenant, record.job)
        assert caught.value.code == Code.ERASED
    assert (await ingest.jobs.cancel_or_erase(who.tenant, record.job)).state == State.ERASED
    async with asyncio.timeout(60):
        while (await ingest.usage(who)).bytes:
            await asyncio.sleep(0.05)
    assert (await ingest.usage(who)).unfinished_jobs == 0


async def test_jobs_are_listed_newest_first(ingest: Ingest, who: Who) -> None:
    """Pages hold every job once, newest first, and can be narrowed to some states."""
    made = [(await ingest.receive(who, f"speech {n}".encode())).record for n in range(7)]
    await ingest.complete(made[2])
    listed: list[str] = []
    before = None
    while True:
        page = await ingest.jobs.page(who.tenant, before, 3)
        listed += [record.job for record in page.records]
        before = page.next
        if before is None:
            break
    assert listed == sorted((record.job for record in made), reverse=True)
    completed = await ingest.jobs.page(who.tenant, limit=1, states=[State.COMPLETED])
    assert [record.job for record in completed.records] == [made[2].job]
    assert completed.next is None
    with pytest.raises(Problem) as caught:
        await ingest.jobs.page(who.tenant, before="nonsense")
    assert caught.value.code == Code.MALFORMED


async def test_jobs_older_than_records_are_found_in_the_store(ingest: Ingest, who: Who) -> None:
    """Jobs that ended longer ago than records are kept are listed, read, repeated into pages and can be erased."""
    young = (await ingest.receive(who, b"speech")).record
    manifest = await ingest.jobs.manifest(who.tenant, young.job)
    now = time.time()
    old: list[str] = []
    for age in (31, 40, 41, 200, 800):
        job = new_job_id(int(now * 1000) - age * DAY_MS)
        accepted = now - age * 86_400
        theirs = manifest.model_copy(update={"job": job, "created": accepted})
        await ingest.blobs.put(objects.manifest(who.tenant, job), theirs.encode())
        data = transcript(job).encode()
        await ingest.blobs.put(objects.transcript(who.tenant, job), data)
        outcome = ended(fresh(theirs), State.COMPLETED, sha256=hashlib.sha256(data).hexdigest())
        await ingest.blobs.put(objects.outcome(who.tenant, job), outcome.encode())
        old.append(job)
    await ingest.sweep().round(everything=True)
    pages = [await ingest.jobs.page(who.tenant, None, 4)]
    pages.append(await ingest.jobs.page(who.tenant, pages[0].next, 4))
    assert [record.job for page in pages for record in page.records] == [young.job, *old]
    assert pages[1].next is None
    assert (await ingest.jobs.get(who.tenant, old[4])).state == State.COMPLETED
    assert (await ingest.jobs.transcript(who.tenant, old[4])).job == old[4]
    assert await ingest.records.get(who.tenant, old[4]) is None
    assert (await ingest.jobs.cancel_or_erase(who.tenant, old[4])).state == State.ERASED
    assert await ingest.stored(who.tenant, old[4]) == ["outcome.json"]


async def test_a_record_leaves_the_bucket_when_its_time_is_over(ingest: Ingest, who: Who) -> None:
    """A record is written with a time to live when its job ends, and with none before."""
    record = (await ingest.receive(who, b"speech")).record
    subject = subjects.kv(subjects.RECORDS, subjects.record(who.tenant, record.job))
    for ttl in (None, f"{RETENTION:.0f}s"):
        stored = await ingest.bus.nc.request(f"$JS.API.DIRECT.GET.{subjects.KV_RECORDS}.{subject}")
        assert (stored.headers or {}).get("Nats-TTL") == ttl
        await ingest.complete(record)


async def test_history_goes_back_window_by_window(ingest: Ingest, who: Who) -> None:
    """Jobs at both sides of a window's border are told in the order of their ids, from any point on."""
    border = 100 << history.WINDOW_BITS
    made = sorted(new_job_id(border + offset) for offset in (-5 * DAY_MS, -1, 0, 1, 12 * DAY_MS, 13 * DAY_MS))
    assert all(is_job_id(job) for job in made)
    for job in made:
        await ingest.blobs.put(objects.outcome(who.tenant, job), b"{}")
    before = new_job_id(border + 60 * DAY_MS)
    assert [job async for job in history.newest_first(ingest.blobs, who.tenant, before)] == made[::-1]
    assert [job async for job in history.newest_first(ingest.blobs, who.tenant, made[3])] == made[2::-1]
    assert [job async for job in history.jobs(ingest.blobs, who.tenant, border / 1000)] == made[2:]
    nobody = await ingest.sign_up()
    assert [job async for job in history.newest_first(ingest.blobs, nobody.tenant, before)] == []
