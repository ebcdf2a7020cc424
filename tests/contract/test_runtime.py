"""The adapters of the bus and the store, on a real nats-server and a real S3 server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.contracts import ids, objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Door, Lane, Manifest, Options, Outcome, State, Timings
from services.contracts.parts import JobWork
from services.runtime.blobs import Blobs, open_blobs
from services.runtime.bus import Bus, connect_bus
from services.runtime.kv import Conflict
from services.runtime.multipart import PART
from services.runtime.records import Records, fresh
from services.runtime.settings import Settings
from tests.support import NatsServer, StoreServer


@pytest.fixture(scope="module")
def settings(nats_server: NatsServer, store_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    access, secret = store_server.keys_of("ingest")
    return Settings(
        home=tmp_path_factory.mktemp("home"),
        nats_url=nats_server.url,
        nats_user="ingest",
        nats_password=nats_server.users["ingest"],
        store_endpoint=store_server.endpoint,
        store_access_key=access,
        store_secret_key=secret,
        store_sync_dir=store_server.sync_dir,
    )


@pytest.fixture(scope="module")
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()
        await bus.ensure_streams()
        yield bus


@pytest.fixture(scope="module")
async def blobs(settings: Settings) -> AsyncIterator[Blobs]:
    async with open_blobs(settings) as blobs:
        yield blobs


def manifest(tenant: str, job: str) -> Manifest:
    return Manifest(
        job=job, tenant=tenant, key_id="k", user="u", door=Door.HTTP, lane=Lane.INTERACTIVE,
        options=Options(model="base"), sha256="0" * 64, size=1, created=1.0,
    )  # fmt: skip


async def test_a_unit_is_queued_once(bus: Bus) -> None:
    """A second offer of the same unit is refused while the first is queued, and accepted after its removal."""
    tenant, job = ids.new_tenant(), ids.new_job_id()
    subject = subjects.job(Lane.INTERACTIVE, tenant, job)
    work = JobWork(job=job, tenant=tenant, size=1, model="base")
    assert await bus.offer(subject, work)
    assert not await bus.offer(subject, work)
    assert await bus.pending(subjects.JOBS, subject)
    assert await bus.counts(subjects.JOBS, f"jobs.*.{tenant}.*") == {subject: 1}


async def test_compare_and_set_has_one_winner(bus: Bus) -> None:
    """Of twenty concurrent creates and twenty concurrent updates one succeeds, and the others are told so."""
    kv = bus.kv(subjects.CLAIMS)
    key = ids.new_tenant()

    async def create(n: int) -> int | None:
        try:
            return await kv.create(key, str(n).encode(), ttl=60)
        except Conflict:
            return None

    won = [revision for revision in await asyncio.gather(*(create(n) for n in range(20))) if revision]
    assert len(won) == 1
    entry = await kv.get(key)
    assert entry is not None
    assert entry.revision == won[0]
    await kv.update(key, b"new", won[0])
    with pytest.raises(Conflict):
        await kv.update(key, b"late", won[0])


async def test_a_deleted_or_expired_key_can_be_made_again(bus: Bus) -> None:
    """A key that was deleted, or whose time to live is over, reads as absent and can be created."""
    kv = bus.kv(subjects.CLAIMS)
    key = ids.new_tenant()
    await kv.create(key, b"1")
    await kv.delete(key)
    assert await kv.get(key) is None
    await kv.create(key, b"2", ttl=1)
    async with asyncio.timeout(60):
        while await kv.get(key) is not None:
            await asyncio.sleep(0.05)
    await kv.create(key, b"3")
    entry = await kv.get(key)
    assert entry is not None
    assert entry.value == b"3"


async def test_every_change_of_a_record_is_an_event(bus: Bus, blobs: Blobs) -> None:
    """The last state of a record appears on the results subject and on the relay without anybody publishing it."""
    records = Records(bus, blobs)
    tenant, job = ids.new_tenant(), ids.new_job_id()
    heard: asyncio.Queue[Record] = asyncio.Queue()

    async def on_event(message: object) -> None:
        heard.put_nowait(Record.model_validate_json(message.data))  # type: ignore[attr-defined]

    relay = await bus.nc.subscribe(f"{subjects.RELAY}.{subjects.state(tenant, job)}", cb=on_event)
    await records.create(fresh(manifest(tenant, job)))
    await records.change(tenant, job, lambda record: record.model_copy(update={"state": State.PREPARING}))
    states = []
    async with asyncio.timeout(60):
        while State.PREPARING not in states:
            states.append((await heard.get()).state)
    await relay.unsubscribe()
    stored = await bus.js.get_last_msg(subjects.RESULTS, subjects.state(tenant, job), direct=True)
    assert json.loads(stored.data or b"")["state"] == "preparing"


async def test_the_first_outcome_wins(bus: Bus, blobs: Blobs) -> None:
    """Of two outcomes the one written first holds, in the store, in the record and for the loser too."""
    records = Records(bus, blobs)
    tenant, job = ids.new_tenant(), ids.new_job_id()
    await records.create(fresh(manifest(tenant, job)))
    timings = Timings(accepted=1.0, finished=2.0)
    cancelled = Outcome(job=job, state=State.CANCELLED, timings=timings)
    completed = Outcome(job=job, state=State.COMPLETED, sha256="ab", timings=timings)
    assert (await records.finish(cancelled, tenant)).state is State.CANCELLED
    assert (await records.finish(completed, tenant)).state is State.CANCELLED
    record = await records.get(tenant, job)
    assert record is not None
    assert record.state is State.CANCELLED


async def test_a_lost_record_is_rebuilt_from_the_objects(bus: Bus, blobs: Blobs) -> None:
    """Without a record a change finds the job by its manifest; a terminal job stays terminal."""
    records = Records(bus, blobs)
    tenant, job = ids.new_tenant(), ids.new_job_id()
    await blobs.put_once(objects.manifest(tenant, job), manifest(tenant, job).encode())
    record = await records.change(tenant, job, lambda _: None)
    assert record.state is State.ACCEPTED
    outcome = Outcome(job=job, state=State.FAILED, timings=Timings(accepted=1.0))
    await blobs.put_once(objects.outcome(tenant, job), outcome.encode())
    await bus.kv(subjects.RECORDS).delete(subjects.record(tenant, job))
    assert (await records.change(tenant, job, lambda r: r.model_copy(update={"parts": 9}))).state is State.FAILED


async def test_an_object_is_written_once(blobs: Blobs) -> None:
    """Of many concurrent writers of one key one succeeds, and its bytes stay."""
    key = objects.words(ids.new_tenant(), ids.new_job_id(), 0)
    won = await asyncio.gather(*(blobs.put_once(key, bytes([n])) for n in range(12)))
    assert won.count(True) == 1
    assert await blobs.get(key) == bytes([won.index(True)])
    await blobs.check_conditional("probe/conditional")


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART + 17])
async def test_a_stream_of_any_length_is_stored_whole(blobs: Blobs, size: int) -> None:
    """What was uploaded in odd chunks is read back byte by byte, also by range."""
    data = os.urandom(size)
    key = objects.source(ids.new_tenant(), ids.new_job_id())

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, size, 65_521):
            yield data[at : at + 65_521]

    assert await blobs.upload(key, chunks()) == size
    assert b"".join([piece async for piece in blobs.read(key)]) == data
    if size > 10:
        assert b"".join([piece async for piece in blobs.read(key, offset=3, length=5)]) == data[3:8]


@pytest.mark.long
async def test_a_store_that_stands_still_breaks_no_upload(settings: Settings, store_server: StoreServer) -> None:
    """A store that takes nothing for some seconds, in the middle of a body, gets the rest of it afterwards."""
    key, data = objects.source(ids.new_tenant(), ids.new_job_id()), bytes(4 * PART)
    store = store_server.stack.process("s3")
    async with open_blobs(settings) as blobs:
        store.kill(signal.SIGSTOP)
        try:
            putting = asyncio.create_task(blobs.put(key, data), name="put")
            await asyncio.sleep(6)
        finally:
            store.kill(signal.SIGCONT)
        await putting
        stat = await blobs.stat(key)
    assert stat is not None
    assert stat.size == len(data)


async def test_nothing_of_a_broken_upload_stays(blobs: Blobs) -> None:
    """An upload whose stream breaks after three parts leaves no object behind."""
    prefix = objects.prefix(ids.new_tenant(), ids.new_job_id())

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PART)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await blobs.upload(prefix + "source", chunks())
    assert [stat async for stat in blobs.list(prefix)] == []


async def test_listing_and_removal(blobs: Blobs) -> None:
    """Objects are listed in order and by pages, and a prefix goes away but for what is kept."""
    prefix = objects.prefix(ids.new_tenant(), ids.new_job_id())
    for n in range(7):
        await blobs.put(f"{prefix}{n}", b"x")
    assert [stat.key[-1] async for stat in blobs.list(prefix, page=3)] == list("0123456")
    assert await blobs.delete_prefix(prefix, keep=frozenset((f"{prefix}3",))) == 6
    assert [stat.key[-1] async for stat in blobs.list(prefix)] == ["3"]
    assert await blobs.stat(f"{prefix}3") is not None
    assert await blobs.stat(f"{prefix}4") is None


async def test_the_barrier_is_shared(blobs: Blobs, tmp_path: Path) -> None:
    """Many waiters of the barrier come back, and a folder that is gone is an error and not a silence."""
    await asyncio.gather(*(blobs.durable() for _ in range(50)))
    from services.runtime.barrier import Barrier

    with pytest.raises(OSError, match="No such file"):
        await Barrier(tmp_path / "gone").wait()
