"""The bucket door: real S3 puts, the whole service with the digest engine, and what lies in the bucket afterwards."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import NO_KEY_PAYS, CreateKey, KeyInfo, KeyRef, NewKey
from services.contracts.jobs import Door, Lane
from tests.doors.bucket import PATIENCE, TALK, Bucket, bucket_of, operator, settings, sidecars


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The whole service, which looks into the bucket every second."""
    async with Stack(tmp_path_factory.mktemp("drop"), settings=settings()) as stack:
        yield stack


@pytest.fixture
async def bucket(service: Stack) -> AsyncIterator[Bucket]:
    """A fresh tenant's part."""
    async for found in bucket_of(service):
        yield found


async def test_a_dropped_recording_has_its_transcript_beside_it(bucket: Bucket) -> None:
    """One object becomes one batch job by the bucket's door, and four files under the same path in `out/`."""
    await bucket.put("in/calls/monday.wav", TALK)
    assert await bucket.has(*sidecars("calls/monday.wav")) == sidecars("calls/monday.wav")
    [record] = await bucket.jobs()
    assert (record.door, record.lane, record.state) == (Door.DROP, Lane.BATCH, "completed")
    assert record.key_id == NO_KEY_PAYS  # none was named for this tenant
    document = json.loads(await bucket.get("out/calls/monday.wav.json"))
    assert document["job_id"] == record.job
    assert (await bucket.get("out/calls/monday.wav.txt")).decode().strip() == document["text"]
    assert await bucket.names("in/") == ["calls/monday.wav"]
    assert await bucket.blobs.get(objects.source(record.tenant, record.job)) == TALK


async def test_a_tree_of_files_is_done_once_each_and_holds_up_nobody(service: Stack, bucket: Bucket) -> None:
    """A hundred objects are a hundred jobs; another tenant's single file, put after them, is done before the last."""
    other = await bucket.another()
    names = [f"{n % 7}/{n:03d}.wav" for n in range(100)]
    transcriber = service.process("transcriber")
    transcriber.kill(signal.SIGSTOP)  # it is to find all of them waiting
    try:
        await asyncio.gather(*(bucket.put(f"in/{name}", TALK + bytes([n])) for n, name in enumerate(names)))
        await bucket.until_admitted(len(names))
        await other.put("in/single.wav", TALK)
        await other.until_admitted(1)
    finally:
        transcriber.kill(signal.SIGCONT)
    await other.has(*sidecars("single.wav"))
    assert await bucket.has(*sidecars(*names)) == sidecars(*names)
    [single] = await other.jobs()
    assert (single.timings.finished or 0) < max(job.timings.finished or 0 for job in await bucket.jobs())
    await bucket.put("in/last.wav", TALK)  # when this is done, there were several more looks at all of them
    await bucket.has(*sidecars("last.wav"))
    dropped = Counter(manifest.dropped for manifest in await bucket.manifests())
    assert set(dropped.values()) == {1}
    assert len(dropped) == 101


async def test_options_come_from_metadata_and_from_the_nearest_order(bucket: Bucket) -> None:
    """`desifre.json` holds for its folder and those below; an object's own metadata win; others' are ignored."""
    await bucket.put("in/a/desifre.json", json.dumps({"language": "de", "beam_size": 2}).encode())
    await bucket.put("in/a/b/desifre.json", json.dumps({"language": "fr"}).encode())
    await bucket.put("in/a/one.wav", TALK)
    await bucket.put("in/a/b/c/two.wav", TALK)
    await bucket.put("in/a/three.wav", TALK, {"language": "tr", "word-timestamps": "false", "mtime": "1.5"})
    await bucket.put("in/four.wav", TALK)
    await bucket.has(*sidecars("a/one.wav", "a/b/c/two.wav", "a/three.wav", "four.wav"))
    found = {manifest.name: manifest.options for manifest in await bucket.manifests()}
    assert {name: (o.language, o.beam_size, o.word_timestamps) for name, o in found.items()} == {
        "one.wav": ("de", 2, True),
        "two.wav": ("fr", 5, True),
        "three.wav": ("tr", 2, False),
        "four.wav": (None, 5, True),
    }


@pytest.mark.parametrize(
    ("data", "metadata", "code", "jobs"),
    [
        (b"this is no recording" * 100, None, "not_audio", 1),
        (b"", None, "empty_file", 0),
        (TALK, {"model": "nonsense"}, "model_unknown", 0),
    ],
)
async def test_what_cannot_be_done_has_the_reason_beside_it(
    bucket: Bucket, data: bytes, metadata: dict[str, str] | None, code: str, jobs: int
) -> None:
    """An error's code, sentence and remedy lie in `out/`, and the object stays where it is."""
    await bucket.put("in/notes.txt", data, metadata)
    assert await bucket.has("notes.txt.error.json") == ["notes.txt.error.json"]
    error = json.loads(await bucket.get("out/notes.txt.error.json"))
    assert error["code"] == code
    assert error["sentence"]
    assert error["remedy"]
    assert await bucket.names("in/") == ["notes.txt"]
    assert len(await bucket.jobs()) == jobs


async def test_an_overwritten_object_is_a_new_job(bucket: Bucket) -> None:
    """What lies beside it is about what is there now: an error goes when there is a transcript, and the reverse."""
    await bucket.put("in/talk.wav", b"no recording")
    await bucket.has("talk.wav.error.json")
    await bucket.put("in/talk.wav", TALK)
    await bucket.until(lambda found: found == set(sidecars("talk.wav")))
    await bucket.put("in/talk.wav", b"no recording again")
    await bucket.until(lambda found: found == {"talk.wav.error.json"})
    assert len(await bucket.jobs()) == 3


async def test_odd_names_folders_and_hidden_files(bucket: Bucket) -> None:
    """Any name that S3 allows is kept as it is; folders, hidden files and orders are no recordings."""
    names = ["Grüße/日本 語.wav", "100% & co?.wav", "a+b=c 'quoted' \"twice\".wav", "same.wav", "same.mp3", "x" * 200]
    for name in names:
        await bucket.put(f"in/{name}", TALK)
    for name in ("in/folder/", "in/.hidden", "elsewhere/talk.wav"):
        await bucket.put(name, b"" if name.endswith("/") else TALK)
    assert await bucket.has(*sidecars(*names)) == sidecars(*names)
    assert len(await bucket.jobs()) == len(names)


async def test_the_key_that_was_named_pays(service: Stack, bucket: Bucket) -> None:
    """Jobs are that key's. When it has ended, what is dropped is refused and stays; the next key that is named pays."""
    paid = await bucket.bus.request(subjects.KEYS_CREATE, CreateKey(tenant=bucket.tenant), NewKey)
    await asyncio.to_thread(operator, service, "drop-key", bucket.tenant, paid.key_id)
    await bucket.put("in/paid.wav", TALK)
    await bucket.has(*sidecars("paid.wav"))

    await bucket.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=bucket.tenant, key_id=paid.key_id), KeyInfo)
    await bucket.put("in/unpaid.wav", TALK)
    await bucket.has("unpaid.wav.error.json")
    error = json.loads(await bucket.get("out/unpaid.wav.error.json"))
    assert (error["code"], paid.key_id in error["sentence"]) == ("drop_key", True)
    assert "desifre drop key" in error["remedy"]
    assert "unpaid.wav" in await bucket.names("in/")
    assert f"{bucket.tenant}\t-\t{paid.key_id}\tended" in await asyncio.to_thread(operator, service, "drop-list")

    await asyncio.to_thread(operator, service, "drop-key", bucket.tenant, bucket.key_id)
    await bucket.until(lambda found: found == set(sidecars("paid.wav", "unpaid.wav")))
    assert {manifest.name: manifest.key_id for manifest in await bucket.manifests()} == {
        "paid.wav": paid.key_id,
        "unpaid.wav": bucket.key_id,
    }


async def test_a_prefix_that_is_no_tenant_is_left_alone(bucket: Bucket) -> None:
    """Nothing is made of what lies below a name that keys does not know, and nobody else waits for it."""
    nobody = Bucket("nobody0000000000", bucket.client, bucket.bus, bucket.blobs, bucket.records)
    await nobody.put("in/talk.wav", TALK)
    await bucket.put("in/talk.wav", TALK)
    await bucket.has(*sidecars("talk.wav"))
    assert await nobody.names("") == ["in/talk.wav"]
    assert await nobody.jobs() == []


@pytest.mark.parametrize(
    ("originals", "stays"), [("delete", []), pytest.param("move", ["a/talk.wav"], marks=pytest.mark.long)]
)
async def test_originals_may_go_when_their_transcript_is_there(
    tmp_path: Path, originals: str, stays: list[str]
) -> None:
    """By a setting they are deleted or moved to `done/`; one that failed stays. A restart makes no second job."""
    async with Stack(tmp_path / "home", settings=settings(DESIFRE_DROP_ORIGINALS=originals)) as stack:
        async for bucket in bucket_of(stack):
            await bucket.put("in/a/talk.wav", TALK)
            await bucket.put("in/a/notes.txt", b"no recording")
            await bucket.until(lambda found: found == {"a/notes.txt"}, "in/")
            assert await bucket.has("a/notes.txt.error.json") == sorted(
                [*sidecars("a/talk.wav"), "a/notes.txt.error.json"]
            )
            assert await bucket.names("done/") == stays
            await stack.process("ingest").restart()
            await stack.wait_all_ready()
            await bucket.put("in/later.wav", TALK)
            await bucket.has(*sidecars("later.wav"))
            assert len(await bucket.jobs()) == 3


async def test_an_event_of_the_store_is_quicker_than_the_next_look(tmp_path: Path) -> None:
    """With an hour between two looks, what is put after the first one is found all the same: the store told."""
    async with Stack(tmp_path / "home", settings=settings(DESIFRE_DROP_EVERY="3600")) as stack:
        async for bucket in bucket_of(stack):
            await bucket.put("in/one.wav", TALK)
            await bucket.has(*sidecars("one.wav"))
            await bucket.put("in/two.wav", TALK)
            await bucket.put("in/one.wav", TALK + b"again")
            await bucket.has(*sidecars("two.wav"))
            async with asyncio.timeout(PATIENCE):
                while len(await bucket.jobs()) < 3:
                    await asyncio.sleep(0.1)


async def test_only_the_store_is_heard(service: Stack) -> None:
    """Without the token an event is refused, with it nonsense is."""
    token = service.wiring.secrets["s3.events"]
    async with aiohttp.ClientSession() as session:

        async def say(shown: str, body: bytes) -> int:
            headers = {"Authorization": f"Bearer {shown}"}
            async with session.post(f"{service.http_url}/events/store", data=body, headers=headers) as answer:
                return answer.status

        assert [
            await say(shown, body) for shown, body in ((token, b"{}"), (token, b"x"), ("", b"{}"), ("x", b"{}"))
        ] == [
            204,
            400,
            403,
            403,
        ]
