"""The bus door on real servers: a tenant's own service publishes, and reads what becomes of it, by its own user."""

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import pytest
from minio import Minio
from nats.aio.client import Client
from nats.js import JetStreamContext

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import CreateKey, NewKey
from services.contracts.events import Record
from services.contracts.jobs import Lane, Manifest
from services.contracts.submit import Rejected
from services.runtime.bus import Bus
from tests.doors.caller import Front

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def grant(stack: Stack, tenant: str) -> dict[str, str]:
    """What `desifre nats grant` prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", "nats-grant", tenant],
        env={"DESIFRE_HOME": str(stack.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@asynccontextmanager
async def logged_in(login: dict[str, str], complaints: list[str] | None = None) -> AsyncIterator[Client]:
    """A connection; the server may still be reading its users again. What it refuses is noted in `complaints`."""

    async def note(error: Exception) -> None:
        if complaints is not None:
            complaints.append(str(error).lower())

    async with asyncio.timeout(20):
        while True:
            try:
                nc = await nats.connect(
                    login["url"],
                    user=login["user"],
                    password=login["password"],
                    allow_reconnect=False,
                    error_cb=note,
                )
                break
            except nats.errors.Error:
                await asyncio.sleep(0.05)
    try:
        yield nc
    finally:
        await nc.close()


@dataclass(frozen=True)
class Publisher:
    """A tenant's own service."""

    tenant: str
    nc: Client
    login: dict[str, str]
    complaints: list[str]

    @property
    def js(self) -> JetStreamContext:
        return self.nc.jetstream(domain=self.login["domain"])

    async def submit(self, headers: dict[str, str] | None = None, **message: Any) -> None:
        await self.raw(json.dumps(message).encode(), headers)

    async def raw(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        await self.js.publish(subjects.submit(self.tenant), data, headers=headers, stream=subjects.SUBMIT)

    async def read(self, stream: str = subjects.RESULTS) -> bytes:
        """The next event for this tenant, waited for."""
        pull = await self.js.pull_subscribe_bind(subjects.reader(self.tenant), stream)
        async with asyncio.timeout(20):
            while True:
                try:
                    [message] = await pull.fetch(1, timeout=2)
                except (TimeoutError, nats.js.errors.Error):
                    await asyncio.sleep(0.05)  # the consumer is made at the first submission
                    continue
                await message.ack_sync()
                return message.data

    async def record(self) -> Record:
        return Record.model_validate_json(await self.read())

    async def rejection(self) -> Rejected:
        return Rejected.model_validate_json(await self.read(subjects.REJECTED))


async def sign_up(bus: Bus) -> str:
    new = await bus.request(subjects.KEYS_CREATE, CreateKey(username="u", address="127.0.0.1"), NewKey)
    return new.tenant


@pytest.fixture
async def publisher(front: Front) -> AsyncIterator[Publisher]:
    """A fresh tenant whose service was let onto the bus."""
    tenant = await sign_up(front.bus)
    login, complaints = await asyncio.to_thread(grant, front.stack, tenant), list[str]()
    async with logged_in(login, complaints) as nc:
        yield Publisher(tenant, nc, login, complaints)


def audio(data: bytes = b"sound") -> str:
    return base64.b64encode(data).decode()


def put(stack: Stack, key: str, data: bytes) -> None:
    access, secret = stack.store_keys()
    client = Minio(stack.store_endpoint, access, secret, secure=False, region="us-east-1")
    client.put_object(objects.DROP_BUCKET, key, io.BytesIO(data), len(data))


async def manifest(front: Front, record: Record) -> Manifest:
    found = await front.records.manifest(record.tenant, record.job)
    assert found is not None
    return found


async def test_a_message_with_audio_becomes_a_job(front: Front, publisher: Publisher) -> None:
    """Small audio in a message is a batch job with the publisher's id, options, name and trace, told on results."""
    await publisher.submit(
        {"traceparent": TRACE}, id="call 7", audio=audio(b"small"), options={"language": "de"}, name="x/talk.wav"
    )
    record = await publisher.record()
    assert (record.tenant, record.external_id, record.lane) == (publisher.tenant, "call 7", Lane.BATCH)
    found = await manifest(front, record)
    assert (found.options.language, found.name, found.traceparent) == ("de", "talk.wav", TRACE)
    assert await front.blobs.get(objects.source(record.tenant, record.job)) == b"small"
    work = await front.bus.js.get_last_msg(subjects.JOBS, subjects.job(record.lane, record.tenant, record.job))
    assert (work.headers or {})["traceparent"] == TRACE
    await front.complete(record.job)
    while not (last := await publisher.record()).state.terminal:
        pass
    assert last.sha256
    assert last.external_id == "call 7"


async def test_an_object_of_ones_own_becomes_a_job(front: Front, publisher: Publisher) -> None:
    """A key below the tenant's prefix names the recording, and the lane may be asked for."""
    key = f"{publisher.tenant}/calls/a b.wav"
    await asyncio.to_thread(put, front.stack, key, b"from the bucket" * 100_000)
    await publisher.submit(id="1", object=key, lane="interactive")
    record = await publisher.record()
    assert (record.lane, record.size, (await manifest(front, record)).name) == (
        Lane.INTERACTIVE,
        1_500_000,
        "a b.wav",
    )


async def test_repeats_by_id_are_one_job(front: Front, publisher: Publisher) -> None:
    """Twenty publications of one id, at once and later, are one job; another id is another."""
    await asyncio.gather(*(publisher.submit(id="same", audio=audio()) for _ in range(20)))
    first = await publisher.record()
    await publisher.submit(id="same", audio=audio(b"changed"))
    await publisher.submit(id="other", audio=audio())
    assert (await publisher.record()).external_id == "other"
    assert len([key for key in await front.stored(publisher.tenant) if key.endswith("job.json")]) == 2
    assert await front.blobs.get(objects.source(first.tenant, first.job)) == b"sound"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"not json", "submission_malformed"),
        (b"[" * 10_000, "submission_malformed"),
        ({"audio": "QUJD"}, "submission_malformed"),
        ({"id": "x" * 129, "audio": "QUJD"}, "submission_malformed"),
        ({"id": "x"}, "submission_malformed"),
        ({"id": "x", "audio": "?"}, "submission_malformed"),
        ({"id": "x", "audio": "QUJD", "tenant": "somebodyelse0000"}, "submission_malformed"),
        ({"id": "x", "audio": "QUJD", "lane": "live"}, "submission_malformed"),
        ({"id": "x", "audio": ""}, "empty_file"),
        ({"id": "x", "audio": "QUJD", "options": {"model": "nonsense"}}, "model_unknown"),
        ({"id": "x", "audio": "QUJD", "callback_url": "https://127.0.0.1/hook"}, "callback_url_refused"),
        ({"id": "x", "audio": "QUJD", "callback_include": "transcript"}, "option_invalid"),
        ({"id": "x", "audio": "QUJD", "options": {"colour": 1}}, "option_unknown"),
        ({"id": "x", "object": "{tenant}/missing.wav"}, "object_not_found"),
        ({"id": "x", "object": "{tenant}/../aaaaaaaaaaaaaaaa/theirs.wav"}, "object_not_found"),
        ({"id": "x", "object": "aaaaaaaaaaaaaaaa/theirs.wav"}, "object_not_found"),
        ({"id": "x", "object": "{tenant}/in//x"}, "object_not_found"),
    ],
)
async def test_what_cannot_be_a_job_is_rejected_with_the_reason(
    front: Front, publisher: Publisher, message: bytes | dict[str, str], code: str
) -> None:
    """A rejection has the publisher's id where it could be read, a code, a sentence and a remedy; nothing is stored."""
    await asyncio.to_thread(put, front.stack, "aaaaaaaaaaaaaaaa/theirs.wav", b"theirs")
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    await publisher.raw(data.replace(b"{tenant}", publisher.tenant.encode()))
    rejected = await publisher.rejection()
    assert rejected.code == code, rejected
    assert rejected.sentence
    assert rejected.remedy
    assert rejected.id == (None if code == "submission_malformed" and b'"x", "audio": "?"' not in data else "x")
    assert await front.stored(publisher.tenant) == []


async def test_a_tenant_that_does_not_exist_is_rejected(front: Front) -> None:
    """The tenant is the subject's, and keys must know it."""
    nobody = "nobody0000000000"
    login = await asyncio.to_thread(grant, front.stack, nobody)
    async with logged_in(login) as nc:
        publisher = Publisher(nobody, nc, login, [])
        await publisher.submit(id="1", audio=audio())
        assert (await publisher.rejection()).code == "wrong_key"


async def test_a_publisher_may_do_just_that(front: Front, publisher: Publisher) -> None:
    """A granted user can neither submit for, nor read of, anybody else, nor touch anything of the service's."""
    other = await sign_up(front.bus)
    complaints = publisher.complaints
    reader = subjects.reader(publisher.tenant)
    for subject in (
        subjects.submit(other),
        subjects.job("batch", publisher.tenant, "j"),
        subjects.rejected(publisher.tenant),
        subjects.state(publisher.tenant, "j"),
        subjects.KEYS_CREATE,
        f"$JS.API.CONSUMER.CREATE.RESULTS.{reader}.results.>",
        f"$JS.API.CONSUMER.CREATE.RESULTS.{reader}.results.{publisher.tenant}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(other)}",
        f"$JS.{subjects.DOMAIN}.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(other)}",
        f"$JS.ACK.RESULTS.{subjects.reader(other)}.1.1.1.1.0",
        f"$JS.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.USAGE_CONSUMER}",
        "$JS.API.STREAM.INFO.RESULTS",
        "$JS.API.DIRECT.GET.RESULTS",
        "$JS.API.STREAM.PURGE.SUBMIT",
    ):
        complaints.clear()
        await publisher.nc.publish(subject, b"{}")
        await publisher.nc.flush()
        await publisher.nc.flush()
        assert any(subject.lower() in each for each in complaints), subject
    for subject in (">", "results.>", f"{subjects.RELAY}.>", "submit.>", f"{subjects.inbox('ingest')}.>"):
        complaints.clear()
        await publisher.nc.subscribe(subject)
        await publisher.nc.flush()
        await publisher.nc.flush()
        assert any("permissions violation" in each for each in complaints), subject


async def test_an_answer_reaches_nobody_else(front: Front, publisher: Publisher) -> None:
    """Where a granted user asks for an answer, a subject of the service's or another tenant's, nothing arrives."""
    other = await sign_up(front.bus)
    record = subjects.kv(subjects.RECORDS, subjects.record(other, "job_forged"))
    targets = (record, subjects.job("batch", other, "job_forged"), subjects.submit(other), "anywhere")
    heard = await front.bus.nc.subscribe("anywhere")
    await publisher.submit(id="1", audio=audio())
    assert (await publisher.record()).external_id == "1"
    ask = json.dumps({"batch": 1, "expires": 2_000_000_000}).encode()
    for target in targets:
        await publisher.nc.publish(subjects.submit(publisher.tenant), b"{}", reply=target)
        await publisher.nc.publish(
            f"$JS.{subjects.DOMAIN}.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(publisher.tenant)}",
            ask,
            reply=target,
        )
    for n in range(len(targets)):
        await publisher.submit(id=f"more {n}", audio=audio(b"more"))
        # Each of the four empty submissions above was taken, acknowledged somewhere, and rejected.
        assert (await publisher.rejection()).code == "submission_malformed"
    assert publisher.complaints == []
    assert heard.pending_msgs == 0
    for stream, subject in zip((subjects.KV_RECORDS, subjects.JOBS, subjects.SUBMIT), targets, strict=False):
        assert await front.bus.counts(stream, subject) == {}, subject
    await heard.unsubscribe()


async def test_what_another_tenant_calls_its_message_throws_nothing_away(front: Front, publisher: Publisher) -> None:
    """Two tenants that publish under one `Nats-Msg-Id` have a job each: the stream forgets it after 0.1 s."""
    other = await sign_up(front.bus)
    login = await asyncio.to_thread(grant, front.stack, other)
    async with logged_in(login) as nc:
        theirs = Publisher(other, nc, login, [])
        await theirs.submit({"Nats-Msg-Id": "1"}, id="1", audio=audio())
        assert (await theirs.record()).external_id == "1"
        await asyncio.sleep(0.2)
        await publisher.submit({"Nats-Msg-Id": "1"}, id="1", audio=audio())
        assert (await publisher.record()).tenant == publisher.tenant


async def test_a_second_grant_is_a_new_password(front: Front, publisher: Publisher) -> None:
    """The old password is worth nothing then, and the services stay connected through it all."""
    again = await asyncio.to_thread(grant, front.stack, publisher.tenant)
    async with logged_in(again) as nc:
        async with asyncio.timeout(20):
            while publisher.nc.is_connected:
                await asyncio.sleep(0.05)
        renewed = Publisher(publisher.tenant, nc, again, [])
        await renewed.submit(id="1", audio=audio())
        assert (await renewed.record()).external_id == "1"


async def test_reading_begins_before_anything_is_submitted(publisher: Publisher) -> None:
    """Whoever was let onto the bus may start its consumer first: it waits for what comes."""
    js = publisher.nc.jetstream(domain=subjects.DOMAIN)
    events = await js.pull_subscribe_bind(subjects.reader(publisher.tenant), subjects.RESULTS)
    waiting = asyncio.create_task(events.fetch(1, timeout=20))
    await publisher.submit(id="1", audio=audio())
    [event] = await waiting
    assert json.loads(event.data)["external_id"] == "1"


async def test_the_examples_of_the_docs_work(front: Front, publisher: Publisher, tmp_path: Path) -> None:
    """The publisher and the consumer that the page shows, as they stand there, bring a job in and see it end."""
    page = (Path(__file__).parents[2] / "docs" / "nats.md").read_text()
    publish, consume = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    environ = {
        "TENANT": publisher.tenant,
        "NATS_URL": publisher.login["url"],
        "NATS_PASSWORD": publisher.login["password"],
    }
    recording = tmp_path / "talk.wav"
    recording.write_bytes(b"sound")

    async def run(program: str, *arguments: str) -> str:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, *arguments), env=environ, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == 0
        return output.decode()

    assert await run(publish, str(recording)) == "received as " + str((await front.bus.tip(subjects.SUBMIT))[1]) + "\n"
    async with asyncio.timeout(20):
        while not (jobs := [key for key in await front.stored(publisher.tenant) if key.endswith("job.json")]):
            await asyncio.sleep(0.05)
    found = objects.split(jobs[0])
    assert found
    consuming = asyncio.create_task(run(consume))
    await front.complete(found[1])
    last = (await consuming).splitlines()[-1]
    assert last.startswith(f"{recording} completed ")
