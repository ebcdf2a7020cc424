"""The bus door on real servers: a tenant's own service publishes, and reads what becomes of it, by its own user."""

import asyncio
import io
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from minio import Minio

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Lane, Manifest
from tests.doors.caller import Front
from tests.doors.publisher import Publisher, audio, grant, logged_in, publishing

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
async def stubborn(front: Front) -> AsyncIterator[Publisher]:
    """A tenant none of whose messages can be a job."""
    async with publishing(front) as publisher:
        yield publisher


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
    front: Front, stubborn: Publisher, message: bytes | dict[str, str], code: str
) -> None:
    """A rejection has the publisher's id where it could be read, a code, a sentence and a remedy; nothing is stored."""
    await asyncio.to_thread(put, front.stack, "aaaaaaaaaaaaaaaa/theirs.wav", b"theirs")
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    await stubborn.raw(data.replace(b"{tenant}", stubborn.tenant.encode()))
    rejected = await stubborn.rejection()
    assert rejected.code == code, rejected
    assert rejected.sentence
    assert rejected.remedy
    assert rejected.id == ("x" if b'"id": "x"' in data else None)
    assert await front.stored(stubborn.tenant) == []


async def test_an_unknown_field_is_named(stubborn: Publisher) -> None:
    """Who misspells a field is told which one it is."""
    await stubborn.raw(b'{"id": "x", "audio": "QUJD", "colour": "red"}')
    rejected = await stubborn.rejection()
    assert rejected.id == "x"
    assert "Unknown: `colour`." in rejected.sentence


async def test_a_tenant_that_does_not_exist_is_rejected(front: Front) -> None:
    """The tenant is the subject's, and keys must know it."""
    nobody = "nobody0000000000"
    login = await asyncio.to_thread(grant, front.stack, nobody)
    async with logged_in(login) as nc:
        publisher = Publisher(nobody, nc, login, [])
        await publisher.submit(id="1", audio=audio())
        assert (await publisher.rejection()).code == "wrong_key"


async def test_reading_begins_before_anything_is_submitted(publisher: Publisher) -> None:
    """Whoever was let onto the bus may start its consumer first: it waits for what comes."""
    js = publisher.nc.jetstream(domain=subjects.DOMAIN)
    events = await js.pull_subscribe_bind(subjects.reader(publisher.tenant), subjects.RESULTS)
    waiting = asyncio.create_task(events.fetch(1, timeout=60))
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
    async with asyncio.timeout(60):
        while not (jobs := [key for key in await front.stored(publisher.tenant) if key.endswith("job.json")]):
            await asyncio.sleep(0.05)
    found = objects.split(jobs[0])
    assert found
    consuming = asyncio.create_task(run(consume))
    await front.complete(found[1])
    last = (await consuming).splitlines()[-1]
    assert last.startswith(f"{recording} completed ")
