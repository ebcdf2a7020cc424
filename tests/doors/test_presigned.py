"""Recordings that go straight to the store: one PUT or many, and only what was agreed becomes a job, once."""

import asyncio
import hashlib
import io
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts import objects
from services.ingest.quota import Quota
from services.ingest.sweep import Sweep
from tests import media
from tests.doors.caller import LIMIT, Caller, Front, form

SOUND = b"sound" * 1000
FAR = 1e9
"""Seconds that nothing in a test is old."""


async def begin(me: Caller, size: int = len(SOUND), **more: Any) -> dict[str, Any]:
    """An upload, offered."""
    reply = await me("POST", "/uploads", json={"size": size, **more})
    assert reply.status == 201, reply.body
    found: dict[str, Any] = reply.json()
    return found


async def put(me: Caller, upload: dict[str, Any], data: bytes = SOUND) -> list[int]:
    """What the store answers to each part, sent without our key."""
    statuses, at = [], 0
    for part in upload["parts"]:
        piece = data[at : at + part["size"]] if len(upload["parts"]) > 1 else data
        async with me.session.put(part["url"], data=io.BytesIO(piece), headers=upload["headers"]) as answer:
            statuses.append(answer.status)
        at += part["size"]
    return statuses


async def below(front: Front, prefix: str) -> list[str]:
    return [stat.key async for stat in front.blobs.list(prefix)]


@pytest.fixture
async def whole(stack: Stack) -> AsyncIterator[Caller]:
    """A fresh tenant of the whole service, whose uploads may be large."""
    async with aiohttp.ClientSession() as session:
        yield await Caller(session, stack.http_url).sign_up()


async def test_a_recording_put_into_the_store_becomes_a_job(front: Front, me: Caller) -> None:
    """The job has the recording, its sum, its name and the options, and nothing stays where it was put."""
    digest = hashlib.sha256(SOUND).hexdigest()
    upload = await begin(me, name="../talk.wav", sha256=digest.upper(), content_type="audio/wav")
    assert upload["headers"] == {"Content-Type": "audio/wav"}
    assert len(upload["parts"]) == 1
    assert 0 < upload["expires"] - time.time() <= 3600
    assert await put(me, upload) == [200]
    reply = await me("POST", "/jobs", json={"upload": upload["upload"], "language": "tr"})
    assert reply.status == 202, reply.body
    job = reply.json()["job_id"]
    tenant = await front.tenant_of(job)
    manifest = await front.records.manifest(tenant, job)
    assert manifest is not None
    assert (manifest.sha256, manifest.size, manifest.name) == (digest, len(SOUND), "talk.wav")
    assert manifest.options.language == "tr"
    assert await front.blobs.get(objects.source(tenant, job)) == SOUND
    assert await below(front, objects.upload_prefix(tenant, upload["upload"])) == []
    await settled(me, (len(SOUND), 1))


async def test_parts_make_one_recording(whole: Caller) -> None:
    """A recording put in parts gives the transcript that it gives when it is sent in one."""
    recording = media.encode(media.talk(4.0, seed=5), "wav")
    recording += b"\0" * (12_000_000 - len(recording))
    upload = await begin(whole, len(recording), part_size=5 << 20, sha256=hashlib.sha256(recording).hexdigest())
    assert [part["size"] for part in upload["parts"]] == [5 << 20, 5 << 20, len(recording) - (10 << 20)]
    early = await whole("POST", "/jobs", json={"upload": upload["upload"]})
    assert (early.status, early.code) == (409, "upload_incomplete")
    assert await put(whole, upload, recording) == [200, 200, 200]
    reply = await whole("POST", "/transcribe", json={"upload": upload["upload"]})
    assert reply.status == 200, reply.body
    direct = await whole("POST", "/transcribe", data=form(recording))
    assert direct.json()["words"] == reply.json()["words"] != []


async def test_the_same_upload_is_the_same_job(front: Front, me: Caller) -> None:
    """A repeat is the same job, though the upload is gone; with other options it is an error that names the job."""
    upload = await begin(me)
    await put(me, upload)
    ask = {"upload": upload["upload"], "language": "tr"}
    first = (await me("POST", "/jobs", json=ask)).json()["job_id"]
    assert (await me("POST", "/jobs", json=ask)).json()["job_id"] == first
    other = await me("POST", "/jobs", json={"upload": upload["upload"], "language": "de"})
    assert (other.status, other.code, other.json()["job_id"]) == (409, "upload_used", first)
    assert len((await me("GET", "/jobs")).json()["jobs"]) == 1


async def test_two_at_once_are_one_job(front: Front, me: Caller) -> None:
    """Of two requests for the same upload at the same moment, one makes the job and both may have it."""
    upload = await begin(me)
    await put(me, upload)
    replies = await asyncio.gather(*(me("POST", "/jobs", json={"upload": upload["upload"]}) for _ in range(4)))
    # Who comes while the recording is being moved away may be told to come again.
    jobs = {reply.json()["job_id"] for reply in replies if reply.status == 202}
    assert {reply.status for reply in replies} <= {202, 409, 503}
    assert [one["job_id"] for one in (await me("GET", "/jobs")).json()["jobs"]] == list(jobs)
    await settled(me, (len(SOUND), 1))


async def settled(me: Caller, expected: tuple[int, int]) -> None:
    """Wait until the account says these bytes and unfinished jobs."""
    async with asyncio.timeout(60):
        while True:
            usage = (await me("GET", "/usage")).json()
            if (usage["bytes"], usage["unfinished_jobs"]) == expected:
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("data", [SOUND[:-1], SOUND + b"x"], ids=["short", "long"])
async def test_the_url_takes_the_length_that_was_agreed(front: Front, me: Caller, data: bytes) -> None:
    """The store refuses what is shorter or longer than was said, so that nobody fills it."""
    upload = await begin(me)
    assert await put(me, upload, data) == [403]
    reply = await me("POST", "/jobs", json={"upload": upload["upload"]})
    assert (reply.status, reply.code) == (409, "upload_incomplete")


async def test_the_length_is_checked_again(front: Front, me: Caller) -> None:
    """A store that does not hold to the length would not help: the recording is measured before it is a job."""
    upload = await begin(me)
    tenant = await tenant_of(front, upload)
    await front.blobs.put(objects.upload_data(tenant, upload["upload"]), SOUND[:-1])
    reply = await me("POST", "/jobs", json={"upload": upload["upload"]})
    assert (reply.status, reply.code) == (400, "length_mismatch")


async def tenant_of(front: Front, upload: dict[str, Any]) -> str:
    """Whose upload this is."""
    [tenant] = {key.split("/")[1] for key in await below(front, objects.UPLOADS) if upload["upload"] in key}
    return tenant


async def test_the_sum_is_checked(front: Front, me: Caller) -> None:
    """What is not what its sum says becomes no job; put again rightly it does."""
    upload = await begin(me, sha256=hashlib.sha256(SOUND).hexdigest())
    assert await put(me, upload, SOUND[::-1]) == [200]
    reply = await me("POST", "/jobs", json={"upload": upload["upload"]})
    assert (reply.status, reply.code) == (400, "checksum_mismatch")
    tenant = await tenant_of(front, upload)
    assert await front.stored(tenant) == []
    assert (await me("GET", "/usage")).json()["bytes"] == len(SOUND)
    assert await put(me, upload) == [200]
    assert (await me("POST", "/jobs", json={"upload": upload["upload"]})).status == 202


async def test_a_url_expires(front: Front, me: Caller) -> None:
    """A URL works as long as was asked for, and no longer."""
    upload = await begin(me, expires_in=1)
    async with asyncio.timeout(60):
        while await put(me, upload) != [403]:
            await asyncio.sleep(0.2)
    assert time.time() >= upload["expires"] - 1


async def test_a_url_is_for_its_object_alone(front: Front, me: Caller) -> None:
    """A URL neither reads, nor writes another object, nor takes another type of content."""
    upload = await begin(me, content_type="audio/wav")
    url, session = upload["parts"][0]["url"], me.session
    async with session.get(url) as answer:
        assert answer.status == 403
    async with session.put(url.replace("/data?", "/upload.json?"), data=SOUND, headers=upload["headers"]) as answer:
        assert answer.status == 403
    async with session.put(url, data=SOUND, headers={"Content-Type": "text/html"}) as answer:
        assert answer.status == 403


async def test_anothers_upload_is_none(front: Front, me: Caller) -> None:
    """An upload belongs to the tenant that began it; what is no id is none either."""
    upload = await begin(me)
    await put(me, upload)
    other = await front.nobody.sign_up()
    for wanted in (upload["upload"], "upl_x", "../" + upload["upload"]):
        reply = await other("POST", "/jobs", json={"upload": wanted})
        assert (reply.status, reply.code) == (404, "upload_not_found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "malformed_request"),
        ({"size": 0}, "malformed_request"),
        ({"size": LIMIT + 1}, "too_large"),
        ({"size": 10, "part_size": 100}, "malformed_request"),
        ({"size": 10, "sha256": "abc"}, "malformed_request"),
        ({"size": 10, "expires_in": 7200}, "malformed_request"),
        ({"size": 10, "content_type": "a\r\nb: c"}, "malformed_request"),
        ({"size": 10, "colour": "red"}, "malformed_request"),
    ],
)
async def test_what_cannot_be_offered(me: Caller, fields: dict[str, Any], code: str) -> None:
    """What is too large or makes no sense gets no URL, and counts for nothing."""
    assert (await me("POST", "/uploads", json=fields)).code == code
    assert (await me("GET", "/usage")).json()["bytes"] == 0


async def test_uploads_count_before_they_are_jobs(front: Front, me: Caller) -> None:
    """What was offered stands on the account, so that nobody stores more than they may."""
    await begin(me, 1000)
    await begin(me, 500)
    usage = (await me("GET", "/usage")).json()
    assert (usage["bytes"], usage["unfinished_jobs"]) == (1500, 2)


async def test_what_is_never_used_is_swept(front: Front, me: Caller) -> None:
    """After half a day an upload is gone: its data, its terms and its place in the quota, put or not."""
    uploads = [await begin(me), await begin(me), await begin(me, part_size=5 << 20)]
    assert await put(me, uploads[0]) == await put(me, uploads[2]) == [200]
    mine = f"{objects.UPLOADS}{await tenant_of(front, uploads[0])}/"
    assert len(await below(front, mine)) >= 4
    clock = {"now": time.time()}
    sweep = Sweep(
        Quota(front.bus),
        front.blobs,
        front.records,
        after=FAR,
        uploads_after=FAR,
        presigned_after=43_200,
        clock=lambda: clock["now"],
    )
    kept = await below(front, mine)
    await sweep.round(everything=True)
    assert await below(front, mine) == kept
    clock["now"] += 43_201
    await sweep.round(everything=True)
    assert await below(front, mine) == []
    usage = (await me("GET", "/usage")).json()
    assert (usage["bytes"], usage["unfinished_jobs"]) == (0, 0)
    assert (await me("POST", "/jobs", json={"upload": uploads[0]["upload"]})).code == "upload_not_found"
    assert await put(me, uploads[2]) == [404], "its parts are no upload any more"


async def test_either_a_job_or_an_upload(me: Caller) -> None:
    """A JSON submission names one recording, not two and not none."""
    for document in ({}, {"source": "job_1", "upload": "upl_1"}, {"upload": 7}):
        assert (await me("POST", "/jobs", json=document)).code == "malformed_request"
