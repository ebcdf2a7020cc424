"""The bus or the store goes away, or loses all it had, in the middle of jobs: that costs time, and nothing else."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from services.contracts import subjects
from services.contracts.events import Record
from services.contracts.jobs import State
from services.runtime.jsapi import api
from services.transcriber.hands import AWAY_DELAY
from tests.faults.checker import check_completed
from tests.faults.conftest import Recording
from tests.faults.support import Service, Tenant, running, until

JOBS = 3
STARTS = 2
"""Unfinished starts of a unit that these services bear; one that is kept waiting for the store is begun more often."""


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service whose engine takes half a second or more for a part, and that gives a unit up after few starts."""
    slow = {"transcriber": {"DESIFRE_DIGEST_SPEED": "30", "DESIFRE_MAX_STARTS": str(STARTS)}}
    async with running(tmp_path_factory.mktemp("service"), slow) as service:
        yield service


async def seen_half_done(service: Service, me: Tenant, job: str) -> bool:
    """Waits until some part of the job is done; whether that was seen before all were."""
    record: Record | None = None

    async def begun() -> bool:
        nonlocal record
        record = await service.records.get(me.tenant, job)
        return record is not None and record.bits > 0

    await until(begun, "the job never got half done")
    return record is not None and not record.complete


async def in_the_middle(service: Service, recording: Recording) -> list[tuple[Tenant, str]]:
    """Jobs of several tenants: one is half done, others are being prepared or wait."""
    while True:
        mine = await asyncio.gather(*(service.sign_up() for _ in range(JOBS)))
        jobs = await asyncio.gather(*(me.submit(recording.data) for me in mine))
        pairs = list(zip(mine, jobs, strict=True))
        if await seen_half_done(service, *pairs[0]):
            return pairs


async def cancelled_half_done(service: Service, me: Tenant, recording: Recording) -> str:
    """A job that was cancelled in the middle, and not a moment after its end."""
    while True:
        job = await me.submit(recording.data)
        if await seen_half_done(service, me, job) and (await me.cancel(job))["state"] == State.CANCELLED:
            return job


async def all_complete(
    service: Service, pairs: list[tuple[Tenant, str]], recording: Recording, like: bytes, *, lost: bool = False
) -> None:
    """Every job ends as the unfaulted one did, and its tenant has no other; `lost`: events of before are gone."""
    for me, job in pairs:
        view = await me.ended(job)
        assert view["state"] == "completed", view["failure"]
        evidence = await service.evidence(me.tenant, job)
        check_completed(evidence, recording.samples, like, all_events=not lost)
        assert await me.jobs() == [job]


@pytest.mark.parametrize("name", ["s3", "nats"])
async def test_a_server_that_stands_still(service: Service, recording: Recording, like: bytes, name: str) -> None:
    """A store or a bus that answers nothing for some seconds, and then goes on, costs those seconds."""
    pairs = await in_the_middle(service, recording)
    process = service.stack.process(name)
    process.kill(signal.SIGSTOP)
    await asyncio.sleep(3)
    process.kill(signal.SIGCONT)
    await all_complete(service, pairs, recording, like)


@pytest.mark.parametrize("name", ["s3", "nats"])
async def test_a_server_that_is_killed(service: Service, recording: Recording, like: bytes, name: str) -> None:
    """A store or a bus that is killed and started again has everything that it ever confirmed."""
    pairs = await in_the_middle(service, recording)
    await service.kill(name)
    await all_complete(service, pairs, recording, like)


@pytest.mark.parametrize("name", ["s3", *(pytest.param(n, marks=pytest.mark.long) for n in ("nats", "keys"))])
async def test_a_server_that_is_gone_for_long(service: Service, recording: Recording, like: bytes, name: str) -> None:
    """While a server is away units are tried again more often than they may be begun, and none of it is counted."""
    pairs = await in_the_middle(service, recording)
    process = service.stack.process(name)
    await process.stop()
    await asyncio.sleep(AWAY_DELAY * (STARTS + 2))
    process.start()
    await process.wait_ready()
    await all_complete(service, pairs, recording, like)


async def test_the_bus_loses_everything(service: Service, recording: Recording, like: bytes) -> None:
    """With every stream and bucket deleted, jobs complete, and one that had ended stays as it was."""
    finished, cancelled = await service.sign_up(), await service.sign_up()
    done = await finished.submit(recording.data)
    gone = await cancelled_half_done(service, cancelled, recording)
    await finished.ended(done)
    ended = {pair: await service.evidence(pair[0].tenant, pair[1]) for pair in ((finished, done), (cancelled, gone))}

    pairs = await in_the_middle(service, recording)
    for stream in subjects.STREAMS:
        await api(service.bus.nc, f"$JS.API.STREAM.DELETE.{stream}")
    await all_complete(service, pairs, recording, like, lost=True)

    for (me, job), before in ended.items():
        view = await me.ended(job)
        assert view["state"] == before.record.state
        after = await service.evidence(me.tenant, job)
        assert after.outcome == before.outcome
        assert after.transcript == before.transcript
        assert after.stored == before.stored
        assert all(isinstance(event, Record) and event.state.terminal for event in after.events), "it came back to life"
    assert ended[cancelled, gone].record.state == State.CANCELLED


@pytest.mark.parametrize(
    "stream",
    [
        subjects.JOBS,
        subjects.PARTS,
        pytest.param(subjects.RESULTS, marks=pytest.mark.long),
        pytest.param(subjects.KV_RECORDS, marks=pytest.mark.long),
    ],
)
async def test_the_bus_loses_one_stream(service: Service, recording: Recording, like: bytes, stream: str) -> None:
    """Whichever stream or bucket is deleted alone, jobs complete, and the ledger hears of it."""
    pairs = await in_the_middle(service, recording)
    await api(service.bus.nc, f"$JS.API.STREAM.DELETE.{stream}")
    lost = stream in (subjects.RESULTS, subjects.KV_RECORDS)
    await all_complete(service, pairs, recording, like, lost=lost)
    for me, _ in pairs:
        await until(lambda me=me: settled(service, me), "the ledger never heard of the end")  # type: ignore[misc]


async def settled(service: Service, me: Tenant) -> bool:
    """Whether keys knows that nothing of this tenant is unfinished."""
    return (await service.usage(me.tenant)).unfinished_jobs == 0
