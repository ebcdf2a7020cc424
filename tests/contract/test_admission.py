"""Admission on a real bus, store and keys service: one request, one job, and nothing of what did not become one."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import Admit, Granted
from services.contracts.auth import Claims as Who
from services.contracts.errors import Code, Problem
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, Options, State
from services.ingest.claims import Claim, Claims, body_of, token_of
from services.ingest.presigned import Presigned
from services.ingest.signing import Presigner
from services.runtime.blobs import open_blobs
from services.runtime.jsapi import Unavailable
from services.runtime.multipart import PART
from services.runtime.patience import until_there
from tests.contract.ingest_support import LIMIT, OPTIONS, Ingest, ended, open_ingest, pieces, settings_of

JOBS_ALLOWED = 12


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Bus, store and keys, without any engine."""
    settings = {"keys": {"DESIFRE_QUOTA_JOBS": str(JOBS_ALLOWED), "DESIFRE_QUOTA_BYTES": str(LIMIT + 1)}}
    async with Stack(tmp_path_factory.mktemp("stack"), services=["nats", "s3", "keys"], settings=settings) as stack:
        yield stack


async def nothing_is_left(ingest: Ingest, who: Who) -> None:
    """No object, no message, no record, no place in the quota."""
    assert await ingest.stored(who.tenant) == []
    assert await ingest.queued(who.tenant) == []
    assert (await ingest.jobs.page(who.tenant)).records == []
    usage = await ingest.usage(who)
    assert (usage.unfinished_jobs, usage.bytes) == (0, 0)


@pytest.mark.parametrize("size", [1, PART + 5])
async def test_a_recording_becomes_a_job(ingest: Ingest, who: Who, size: int) -> None:
    """After admission the source, job.json, the record, the message and the place in the quota are all there."""
    data = os.urandom(size)
    sha256 = hashlib.sha256(data).hexdigest()
    admitted = await ingest.admission.receive(
        who, pieces(data), options=OPTIONS, length=size, sha256=sha256.upper(), name="talk.wav", lane=Lane.BATCH
    )
    record = admitted.record
    assert not admitted.repeated
    assert (record.state, record.lane, record.size) == (State.ACCEPTED, Lane.BATCH, size)
    assert await ingest.records.get(who.tenant, record.job) == record
    assert await ingest.queued(who.tenant) == [record.job]
    assert sorted(await ingest.stored(who.tenant, record.job)) == ["job.json", "source"]
    manifest = await ingest.jobs.manifest(who.tenant, record.job)
    assert (manifest.sha256, manifest.size, manifest.name) == (sha256, size, "talk.wav")
    assert (manifest.user, manifest.key_id, manifest.options) == (who.username, who.key_id, OPTIONS)
    audio = await ingest.jobs.audio(who.tenant, record.job)
    assert b"".join([piece async for piece in audio.read()]) == data
    usage = await ingest.usage(who)
    assert (usage.unfinished_jobs, usage.bytes) == (1, size)


async def test_equal_bytes_with_equal_options_are_one_job(ingest: Ingest, who: Who) -> None:
    """The second request gets the first one's job, and leaves nothing of its own; other options are another job."""
    first = await ingest.receive(who, b"speech")
    second = await ingest.receive(who, b"speech")
    other = await ingest.receive(who, b"speech", Options(model="base", language="tr"))
    assert second.repeated
    assert second.record == first.record
    assert other.record.job != first.record.job
    assert await ingest.queued(who.tenant) == sorted([first.record.job, other.record.job])
    assert len(await ingest.stored(who.tenant)) == 4
    assert (await ingest.usage(who)).unfinished_jobs == 2


async def test_requests_at_the_same_moment_are_one_job(ingest: Ingest, who: Who) -> None:
    """Of many equal requests at once all get the same job, which is on the bus and in the quota once."""
    data = os.urandom(200_000)
    admitted = await asyncio.gather(*(ingest.receive(who, data) for _ in range(JOBS_ALLOWED)))
    assert len({one.record.job for one in admitted}) == 1
    assert [one.repeated for one in admitted].count(False) == 1
    assert await ingest.queued(who.tenant) == [admitted[0].record.job]
    assert len(await ingest.stored(who.tenant)) == 2
    assert (await ingest.usage(who)).unfinished_jobs == 1


async def test_tenants_do_not_share_jobs(ingest: Ingest, who: Who) -> None:
    """The same bytes of another tenant are another job, which the first tenant cannot see."""
    theirs = (await ingest.receive(await ingest.sign_up(), b"speech")).record
    mine = (await ingest.receive(who, b"speech")).record
    assert mine.job != theirs.job
    for look in (ingest.jobs.get, ingest.jobs.transcript, ingest.jobs.audio, ingest.jobs.cancel_or_erase):
        with pytest.raises(Problem) as caught:
            await look(who.tenant, theirs.job)
        assert caught.value.code == Code.JOB_NOT_FOUND


async def test_an_idempotency_key_stands_for_one_request(ingest: Ingest, who: Who) -> None:
    """With the same key the same request is the same job, and another one is refused and leaves nothing."""
    first = await ingest.receive(who, b"one", key="k")
    repeat = await ingest.receive(who, b"one", key="k")
    assert repeat.repeated
    assert repeat.record.job == first.record.job
    for data, options in ((b"two", OPTIONS), (b"one", Options(model="tiny"))):
        with pytest.raises(Problem) as caught:
            await ingest.receive(who, data, options, key="k")
        assert caught.value.code == Code.IDEMPOTENCY
    assert len(await ingest.stored(who.tenant)) == 2
    assert (await ingest.usage(who)).unfinished_jobs == 1
    other = await ingest.receive(who, b"one", key="another key")
    assert other.record.job != first.record.job


async def test_different_requests_race_for_one_key(ingest: Ingest, who: Who) -> None:
    """Of two different requests that use one key at the same moment, one becomes a job and the other is refused."""
    results = await asyncio.gather(
        *(ingest.receive(who, data, key="k") for data in (b"one", b"two")), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, Problem)]
    assert [problem.code for problem in refused] == [Code.IDEMPOTENCY]
    assert len(await ingest.stored(who.tenant)) == 2


async def test_a_repeat_of_a_job_that_came_to_nothing_is_a_new_job(ingest: Ingest, who: Who) -> None:
    """Cancelled and failed jobs are not given out again for equal bytes, and an erased one never; by key they are."""
    for state in (State.CANCELLED, State.FAILED):
        data = state.encode()
        by_content = (await ingest.receive(who, data)).record
        by_key = (await ingest.receive(who, data, key=f"key {state}")).record
        for record in (by_content, by_key):
            await ingest.records.finish(ended(record, state), who.tenant)
        again = await ingest.receive(who, data)
        assert not again.repeated
        assert again.record.state == State.ACCEPTED
        same = await ingest.receive(who, data, key=f"key {state}")
        assert (same.record.job, same.record.state) == (by_key.job, state)
        await ingest.jobs.cancel_or_erase(who.tenant, by_key.job)
        fresh = await ingest.receive(who, data, key=f"key {state}")
        assert fresh.record.job not in (by_key.job, by_content.job)
        assert not fresh.repeated


async def test_a_finished_job_is_not_done_again(ingest: Ingest, who: Who) -> None:
    """A repeat of a completed job gets it as it is, and puts nothing on the bus."""
    record = (await ingest.receive(who, b"speech")).record
    await ingest.complete(record)
    before = await ingest.bus.js.stream_info(subjects.JOBS)
    repeat = await ingest.receive(who, b"speech")
    after = await ingest.bus.js.stream_info(subjects.JOBS)
    assert (repeat.record.job, repeat.record.state) == (record.job, State.COMPLETED)
    assert after.state.last_seq == before.state.last_seq


async def _breaks_off() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield bytes(PART // 2)
    raise ConnectionResetError


async def _unknown_option() -> Options:
    raise Problem(Code.OPTION_UNKNOWN)


@pytest.mark.parametrize(
    ("data", "more", "expected"),
    [
        (b"", {}, Code.EMPTY),
        (b"", {"length": 0}, Code.EMPTY),
        (b"abc", {"length": LIMIT + 1}, Code.TOO_LARGE),
        (bytes(LIMIT + 1), {}, Code.TOO_LARGE),
        (b"abc", {"length": 4}, Code.LENGTH_MISMATCH),
        (bytes(PART + 1), {"length": PART}, Code.LENGTH_MISMATCH),
        (b"abc", {"sha256": "0" * 64}, Code.CHECKSUM),
        (b"abc", {"options": _unknown_option}, Code.OPTION_UNKNOWN),
    ],
)
async def test_nothing_of_a_refused_upload_stays(
    ingest: Ingest, who: Who, data: bytes, more: dict[str, Any], expected: Code
) -> None:
    """An upload that is empty, too large, not what was announced or asks for nonsense leaves nothing behind."""
    with pytest.raises(Problem) as caught:
        await ingest.admission.receive(who, pieces(data), **({"options": OPTIONS} | more))
    assert caught.value.code == expected
    await nothing_is_left(ingest, who)


async def test_nothing_of_a_broken_upload_stays(ingest: Ingest, who: Who) -> None:
    """An upload that breaks off, and one whose request is cancelled, leave nothing behind."""
    with pytest.raises(ConnectionResetError):
        await ingest.admission.receive(who, _breaks_off(), options=OPTIONS)
    await nothing_is_left(ingest, who)
    reached = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        yield bytes(PART + 1)
        reached.set()
        await asyncio.Event().wait()

    request = asyncio.create_task(ingest.admission.receive(who, hangs(), options=OPTIONS), name="request")
    await reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await nothing_is_left(ingest, who)


async def test_quotas_stand_before_the_upload(ingest: Ingest, who: Who) -> None:
    """Over the quota of jobs not a byte is read; over the quota of bytes nothing stays."""
    await ingest.receive(who, bytes(1000))
    with pytest.raises(Problem) as caught:
        await ingest.admission.receive(who, pieces(bytes(LIMIT - 500)), options=OPTIONS)
    assert caught.value.code == Code.QUOTA
    for _ in range(JOBS_ALLOWED - 1):
        ask = Admit(tenant=who.tenant, key_id=who.key_id, job=new_job_id(), bytes=0)
        assert (await ingest.bus.request(subjects.KEYS_ADMIT, ask, Granted)).ok
    body = pieces(b"one more")
    with pytest.raises(Problem) as caught:
        await ingest.admission.receive(who, body, options=OPTIONS)
    assert caught.value.code == Code.TOO_MANY_JOBS
    assert await anext(body) == b"one more"
    assert len(await ingest.stored(who.tenant)) == 2


async def test_a_recording_is_done_again_with_other_options(ingest: Ingest, who: Who) -> None:
    """A job made from another's recording has a copy of its own, which outlives the first job's erasure."""
    first = (await ingest.receive(who, b"speech")).record
    other = Options(model="base", language="tr")
    second = (await ingest.admission.again(who, first.job, options=other)).record
    assert second.job != first.job
    await ingest.complete(first)
    await ingest.jobs.cancel_or_erase(who.tenant, first.job)
    manifest = await ingest.jobs.manifest(who.tenant, second.job)
    assert (manifest.source_of, manifest.options) == (first.job, other)
    assert await ingest.blobs.get(objects.source(who.tenant, second.job)) == b"speech"
    with pytest.raises(Problem) as caught:
        await ingest.admission.again(who, first.job, options=other)
    assert caught.value.code == Code.ERASED
    for wrong in (new_job_id(), "nonsense"):
        with pytest.raises(Problem) as caught:
            await ingest.admission.again(who, wrong, options=OPTIONS)
        assert caught.value.code == Code.JOB_NOT_FOUND


async def test_a_repeat_brings_back_a_recording_that_a_power_cut_took(ingest: Ingest, who: Who) -> None:
    """A claim whose recording is gone, with or without its job.json, is completed from the repeat's own bytes."""
    for with_manifest in (True, False):
        data = os.urandom(100)
        record = (await ingest.receive(who, data)).record
        lost = [objects.source(who.tenant, record.job)]
        if not with_manifest:
            lost.append(objects.manifest(who.tenant, record.job))
        await ingest.blobs.delete(lost)
        await ingest.bus.kv(subjects.RECORDS).delete(subjects.record(who.tenant, record.job))
        repeat = await ingest.receive(who, data)
        assert repeat.record.job == record.job
        assert await ingest.blobs.get(objects.source(who.tenant, record.job)) == data
        assert sorted(await ingest.stored(who.tenant, record.job)) == ["job.json", "source"]
        assert record.job in await ingest.queued(who.tenant)


async def test_a_claim_that_nobody_completed_is_given_to_the_next(ingest: Ingest, who: Who) -> None:
    """A claim whose job never came to exist is completed while it is young, and replaced when it is old."""
    token = token_of(who.tenant, Door.HTTP, "k", "")
    body = body_of(hashlib.sha256(b"speech").hexdigest(), OPTIONS)
    young, old = (Claims(ingest.bus, ingest.records, abandoned_after=after) for after in (1800, -1))
    abandoned = await young.take(token, body, who.tenant, new_job_id())
    assert await young.take(token, body, who.tenant, new_job_id()) == abandoned
    mine = new_job_id()
    assert await old.take(token, body, who.tenant, mine) == mine
    assert (await old.find(token) or Claim(job="", body="", at=0)).job == mine


async def test_a_bus_that_is_away_leaves_nothing_half_done(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without the keys service an upload is refused before a byte is stored."""
    async with (
        Stack(tmp_path_factory.mktemp("stack"), services=["nats", "s3"]) as stack,
        open_ingest(settings_of(stack)) as ingest,
    ):
        who = Who(tenant="t" * 16, key_id="k", username="u", scopes=())
        with pytest.raises(Unavailable):
            await ingest.receive(who, b"speech")
        assert await ingest.stored(who.tenant) == []
        assert await ingest.queued(who.tenant) == []


async def test_an_upload_that_cannot_begin_takes_nothing_of_the_quota(ingest: Ingest, who: Who, stack: Stack) -> None:
    """While the store is away a client may ask again and again for URLs, and is not shut out by it afterwards."""
    away = settings_of(stack).model_copy(update={"store_endpoint": "127.0.0.1:1"})
    async with open_blobs(away) as blobs:
        presigner = Presigner("http://127.0.0.1:1", "bucket", "key", "secret")
        presigned = Presigned(ingest.quota, blobs, ingest.admission, presigner, max_upload=LIMIT, expires=60, kept=3600)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await presigned.offer(who, 1000)
    async with asyncio.timeout(60):  # giving back may take longer than anybody waits for it
        while (usage := await ingest.usage(who)).unfinished_jobs or usage.bytes:
            await asyncio.sleep(0.05)


@pytest.mark.long
async def test_an_upload_that_is_answered_too_late_takes_nothing_of_the_quota(
    ingest: Ingest, who: Who, stack: Stack
) -> None:
    """Keys that stood still counts the upload after nobody waits for its answer any more, and then gives it back."""
    presigner = Presigner("http://127.0.0.1:1", "bucket", "key", "secret")
    presigned = Presigned(
        ingest.quota, ingest.blobs, ingest.admission, presigner, max_upload=LIMIT, expires=60, kept=3600
    )
    stack.process("keys").kill(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await presigned.offer(who, 1000)
    finally:
        stack.process("keys").kill(signal.SIGCONT)
    # Asked after the others and on the same subject, so answered after them.
    ask = Admit(tenant=who.tenant, key_id=who.key_id, job=new_job_id(), bytes=7)
    await until_there(lambda: ingest.bus.request(subjects.KEYS_ADMIT, ask, Granted))
    usage = await ingest.usage(who)
    assert (usage.unfinished_jobs, usage.bytes) == (1, 7)
