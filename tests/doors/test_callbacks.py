"""Callbacks on the whole service: signed, told once, until they are heard, whatever is restarted meanwhile."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import nats
import pytest
from minio import Minio
from nats.js import JetStreamContext
from standardwebhooks import Webhook, WebhookVerificationError

from infra.stack import Stack
from services.contracts import subjects
from services.runtime.jsapi import read_batch
from tests.doors.caller import Caller, Reply, form
from tests.doors.receiver import Receiver, flood, receiving, silence, status
from tests.media import encode, talk

TALK = encode(talk(2.0), "wav")
RETRIES = [0.3, 0.3, 0.3, 60]
"""Seconds before each further call, in place of days."""
TIMEOUT = 5
"""Seconds that a receiver has; more than a busy machine keeps this process from answering."""


@dataclass(frozen=True, slots=True)
class House:
    """The whole service with the digest engine, and two receivers that the operator listed."""

    stack: Stack
    nobody: Caller
    receiver: Receiver
    other: Receiver

    async def sign_up(self) -> Caller:
        """A fresh tenant with a key."""
        return await self.nobody.sign_up()


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async for it in running(tmp_path_factory.mktemp("callbacks")):
        yield it


@pytest.fixture(scope="module")
async def calm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house of one's own for those that break it: no callback of another test comes up in it."""
    async for it in running(tmp_path_factory.mktemp("calm")):
        yield it


async def running(home: Path) -> AsyncIterator[House]:
    async with receiving() as receiver, receiving() as other:
        ingest = {
            "DESIFRE_CALLBACK_HTTP": "true",
            "DESIFRE_CALLBACK_HOSTS": json.dumps([f"127.0.0.1:{one.port}" for one in (receiver, other)]),
            "DESIFRE_CALLBACK_RETRIES": json.dumps(RETRIES),
            "DESIFRE_CALLBACK_TIMEOUT": str(TIMEOUT),
            "DESIFRE_CALLBACK_LEASE": "2",
            "DESIFRE_DROP_EVERY": "1",
            "DESIFRE_RECONCILE_EVERY": "1",
            "DESIFRE_PUBLIC_URL": "https://stt.example/",
            "DESIFRE_FAILPOINT": f"file@{home}/failpoint",
        }
        settings = {"transcriber": {"DESIFRE_ENGINE": "digest"}, "ingest": ingest}
        async with (
            Stack(home, settings=settings, longest_restart_delay=0.05) as stack,
            aiohttp.ClientSession() as session,
        ):
            yield House(stack, Caller(session, stack.http_url), receiver, other)


def recording(n: int = 0) -> bytes:
    """Two seconds of what sounds like speech, different for each `n` in its last two samples."""
    return TALK[:-4] + n.to_bytes(4, "little")


async def log_of(caller: Caller, job: str, state: str | None = None) -> dict[str, Any]:
    """The log of a job's callback, once it is in this state."""
    async with asyncio.timeout(30):
        while True:
            found: dict[str, Any] = (await caller("GET", f"/jobs/{job}/deliveries")).json()
            if state is None or found["state"] == state:
                return found
            await asyncio.sleep(0.05)


async def secret_of(caller: Caller) -> str:
    """A fresh secret for the caller's key."""
    reply = await caller("POST", f"/keys/{caller.key_id}/webhook-secret")
    assert reply.status == 201, reply.body
    return str(reply.json()["secret"])


async def test_a_completed_job_is_told_signed(house: House) -> None:
    """A receiver verifies the call with the key's secret, and finds the job, its numbers and where its words are."""
    me = await house.sign_up()
    secret = await secret_of(me)
    job = await me.submit(recording(), callback_url=house.receiver.url("/told"), model="base")
    [call] = await house.receiver.called("/told")
    told = Webhook(secret).verify(call.body, dict(call.headers))
    assert (told["type"], told["data"]["job_id"]) == ("transcription.completed", job)
    assert told["data"]["urls"]["result"] == f"https://stt.example/jobs/{job}/result"
    transcript = (await me("GET", f"/jobs/{job}/result")).json()
    assert told["data"]["summary"]["words"] == len(transcript["words"]) > 0
    assert transcript["text"] not in call.body.decode()
    assert call.headers["webhook-id"] == f"{job}_completed"
    assert call.headers["Content-Type"] == "application/json"
    log = await log_of(me, job, "delivered")
    assert [(one["status"], one["asked"]) for one in log["attempts"]] == [(204, False)]
    assert (log["webhook_id"], log["next"]) == (f"{job}_completed", None)


async def test_every_way_of_asking(house: House) -> None:
    """The address may stand in the query, in a form before or after the file, or in the JSON of a repeat."""
    me = await house.sign_up()
    url = house.receiver.url("/ways")
    by_query = await me("POST", "/jobs", params={"callback_url": url}, data=recording(1))
    before = await me("POST", "/jobs", data=form(recording(2), callback_url=url, first=False))
    after = await me("POST", "/jobs", data=form(recording(3), callback_url=url))
    waiting = await me("POST", "/transcribe", data=form(recording(4), callback_url=url))
    again = await me("POST", "/jobs", json={"source": by_query.json()["job_id"], "callback_url": url, "beam_size": 1})
    assert {reply.status for reply in (by_query, before, after, waiting, again)} <= {200, 202}
    calls = await house.receiver.called("/ways", 5)
    jobs = {reply.json()["job_id"] for reply in (by_query, before, after, again)}
    assert jobs < {call.json()["data"]["job_id"] for call in calls}


async def test_the_text_comes_only_when_it_was_asked_for(house: House) -> None:
    """`callback_include=transcript` puts the words into the body."""
    me = await house.sign_up()
    job = await me.submit(recording(), callback_url=house.receiver.url("/text"), callback_include="transcript")
    [call] = await house.receiver.called("/text")
    assert call.json()["data"]["transcript"] == (await me("GET", f"/jobs/{job}/result")).json()["text"]


async def test_another_address_is_another_request(house: House) -> None:
    """The same bytes for another receiver are another job, so that both are told; for the same one they are one."""
    me = await house.sign_up()
    one = await me.submit(recording(), callback_url=house.receiver.url("/one"))
    assert await me.submit(recording(), callback_url=house.receiver.url("/one")) == one
    assert await me.submit(recording(), callback_url=house.receiver.url("/two")) != one
    await house.receiver.called("/one")
    await house.receiver.called("/two")


async def test_a_keys_own_address(house: House) -> None:
    """Jobs of a key with an address of its own call there unless they name another, also after a rotation."""
    me = await house.sign_up()
    path = f"/keys/{me.key_id}/callback"
    assert (await me("PUT", path, json={"url": "http://127.0.0.1:1/"})).code == "callback_url_refused"
    key = (await me("PUT", path, json={"url": house.receiver.url("/mine")})).json()
    assert key["callback_url"] == house.receiver.url("/mine")
    secret = await secret_of(me)
    job = await me.submit(recording())
    await me.submit(recording(1), callback_url=house.receiver.url("/not-mine"))
    [call] = await house.receiver.called("/mine")
    assert call.json()["data"]["job_id"] == job
    await house.receiver.called("/not-mine")

    new = (await me("POST", f"/keys/{me.key_id}/rotate")).json()
    rotated = Caller(me.session, me.base, new["api_key"], new["key_id"])
    await rotated.submit(recording(2))
    call = (await house.receiver.called("/mine", 2))[-1]
    Webhook(secret).verify(call.body, dict(call.headers))

    removed = await rotated("PUT", f"/keys/{rotated.key_id}/callback", json={"url": None})
    assert removed.status == 200, removed.body
    assert removed.json()["callback_url"] is None
    quiet = await rotated.submit(recording(3))
    assert (await rotated("GET", f"/jobs/{quiet}/deliveries")).code == "no_callback"
    assert (await rotated("POST", f"/jobs/{quiet}/deliveries")).code == "no_callback"


async def test_a_new_secret_signs_beside_the_old_one(house: House) -> None:
    """After a rotation the call carries both signatures; a stranger's secret verifies none."""
    me, stranger = await house.sign_up(), await house.sign_up()
    old, new, theirs = await secret_of(me), await secret_of(me), await secret_of(stranger)
    await me.submit(recording(), callback_url=house.receiver.url("/rotated"))
    [call] = await house.receiver.called("/rotated")
    for secret in (old, new):
        Webhook(secret).verify(call.body, dict(call.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(theirs).verify(call.body, dict(call.headers))
    assert (await stranger("POST", f"/keys/{me.key_id}/webhook-secret")).code == "key_not_found"
    assert old not in (await me("GET", "/keys")).body.decode()


async def test_failed_and_cancelled_jobs_are_told_too(house: House) -> None:
    """Each end has its type; a failure comes with its reason."""
    me = await house.sign_up()
    failed = await me.submit(b"this is no sound", callback_url=house.receiver.url("/failed"))
    [call] = await house.receiver.called("/failed")
    assert (call.json()["type"], call.json()["data"]["failure"]["code"]) == ("transcription.failed", "not_audio")
    assert call.headers["webhook-id"] == f"{failed}_failed"


async def test_a_job_is_told_once(house: House) -> None:
    """However often its end is heard of, nobody is called twice about a job that was taken."""
    me = await house.sign_up()
    jobs = [await me.submit(recording(n), callback_url=house.receiver.url("/once")) for n in range(5)]
    await house.receiver.called("/once", 5)
    for job in jobs:
        await log_of(me, job, "delivered")
    await restart(house)
    extra = await me.submit(recording(9), callback_url=house.receiver.url("/once"))
    await log_of(me, extra, "delivered")
    told = [call.json()["data"]["job_id"] for call in house.receiver.at("/once")]
    assert sorted(told) == sorted([*jobs, extra])


async def restart(house: House) -> None:
    """`kill -9` of ingest, and wait until it is there again."""
    ingest = house.stack.process("ingest")
    run = ingest.runs
    ingest.kill()
    await ingest.wait_run(run + 1)


async def test_calls_go_on_after_a_restart(house: House) -> None:
    """A receiver that is down is called again by the schedule, also by the ingest that comes after the one killed."""
    me = await house.sign_up()
    house.receiver.answers["/down"] = [status(500, "out of order"), status(302, location="/x"), status(200)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/down"))
    async with asyncio.timeout(10):
        while not (await log_of(me, job))["attempts"]:
            await asyncio.sleep(0.05)
    await restart(house)
    calls = await house.receiver.called("/down", 3)
    log = await log_of(me, job, "delivered")
    assert [one["status"] for one in log["attempts"]] == [500, 302, 200]
    assert log["attempts"][0]["response"] == "out of order"
    assert {call.headers["webhook-id"] for call in calls} == {f"{job}_completed"}
    assert len({call.body for call in calls}) == 1
    assert not house.receiver.at("/x")


async def test_the_schedule_ends(house: House) -> None:
    """A receiver that takes no call is called as the schedule says; one that is asked for goes out at once."""
    me = await house.sign_up()
    house.receiver.answers["/never"] = [status(503, Retry_After="0")]
    job = await me.submit(recording(), callback_url=house.receiver.url("/never"))
    log = await log_of(me, job, "waiting")
    await house.receiver.called("/never", 4)
    async with asyncio.timeout(10):
        while len((log := await log_of(me, job))["attempts"]) < 4:
            await asyncio.sleep(0.05)
    # The last wait is a minute, within a fifth.
    assert log["state"] == "waiting"
    assert 45 < log["next"] - log["attempts"][-1]["at"] < 75
    house.receiver.answers["/never"] = [status(500), status(204)]
    asked = (await me("POST", f"/jobs/{job}/deliveries")).json()
    assert (asked["state"], asked["attempts"][-1]["status"], asked["attempts"][-1]["asked"]) == ("waiting", 500, True)
    asked = (await me("POST", f"/jobs/{job}/deliveries")).json()
    assert (asked["state"], asked["next"], asked["attempts"][-1]["status"]) == ("delivered", None, 204)


async def test_a_receiver_that_asks_for_time_gets_it(house: House) -> None:
    """Retry-After of 429 and 503 makes the wait longer."""
    me = await house.sign_up()
    house.receiver.answers["/later"] = [status(429, Retry_After="2"), status(204)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/later"))
    first, second = await house.receiver.called("/later", 2)
    assert second.at - first.at >= 2
    await log_of(me, job, "delivered")


async def test_a_receiver_that_is_gone_is_called_no_more(house: House) -> None:
    """410 ends this callback and those of later jobs, until the owner asks for a call that is taken."""
    me = await house.sign_up()
    house.receiver.answers["/gone"] = [status(410)]
    url = house.receiver.url("/gone")
    first = await me.submit(recording(), callback_url=url)
    await log_of(me, first, "disabled")
    second = await me.submit(recording(1), callback_url=url)
    assert (await log_of(me, second, "disabled"))["attempts"] == []
    assert len(house.receiver.at("/gone")) == 1
    house.receiver.answers["/gone"] = [status(204)]
    assert (await me("POST", f"/jobs/{second}/deliveries")).json()["state"] == "delivered"
    third = await me.submit(recording(2), callback_url=url)
    await log_of(me, third, "delivered")


async def test_what_cannot_be_reached_is_written_down(house: House) -> None:
    """A silent receiver and one that hangs up are errors in the log, and are called again."""
    me = await house.sign_up()
    until = asyncio.Event()
    house.receiver.answers["/silent"] = [silence(until), status(204)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/silent"))
    log = await log_of(me, job, "delivered")
    until.set()
    assert [(one["error"], one["status"]) for one in log["attempts"]] == [("timeout", None), (None, 204)]
    assert log["attempts"][0]["duration"] >= TIMEOUT


async def test_an_endless_answer_costs_nothing(house: House) -> None:
    """Of an answer that never ends the status counts, and a little that can be printed is kept."""
    me = await house.sign_up()
    house.receiver.answers["/flood"] = [flood(200)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/flood"))
    [attempt] = (await log_of(me, job, "delivered"))["attempts"]
    assert (attempt["status"], attempt["error"], attempt["duration"] < TIMEOUT) == (200, None, True)
    assert attempt["response"] == ("[31mflood" * 200)[:200]


async def test_a_dropped_object_calls_back_too(house: House) -> None:
    """`callback-url` beside an object in the bucket is called, signed for the keys of its tenant."""
    me = await house.sign_up()
    secret = await secret_of(me)
    tenant = (await me("POST", "/keys", json={"label": "tells the tenant"})).json()["tenant"]
    access, password = house.stack.store_keys()
    client = Minio(house.stack.store_endpoint, access, password, secure=False, region="us-east-1")
    told: dict[str, Any] = {"callback-url": house.receiver.url("/dropped")}
    sound = recording()
    await asyncio.to_thread(
        client.put_object, "drop", f"{tenant}/in/talk.wav", io.BytesIO(sound), len(sound), metadata=told
    )
    [call] = await house.receiver.called("/dropped")
    assert Webhook(secret).verify(call.body, dict(call.headers))["type"] == "transcription.completed"


async def test_a_submission_on_the_bus_calls_back_too(house: House) -> None:
    """Its call is signed for its tenant's keys, and its trace goes with every event of it."""
    me = await house.sign_up()
    secret = await secret_of(me)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ask = {"id": "1", "audio": base64.b64encode(recording(7)).decode(), "callback_url": house.receiver.url("/bus")}
    tenant = (await me("POST", "/keys", json={"label": "tells the tenant"})).json()["tenant"]
    nc = await nats.connect(
        house.stack.nats_url, user="admin", password=house.stack.nats_password(), inbox_prefix=b"_INBOX_admin"
    )
    try:
        await nc.jetstream().publish(subjects.submit(tenant), json.dumps(ask).encode(), headers={"traceparent": trace})
        [call] = await house.receiver.called("/bus")
        told = Webhook(secret).verify(call.body, dict(call.headers))
        events, _ = await read_batch(nc, subjects.RESULTS, subjects.results(tenant, told["data"]["job_id"]), 0, 100)
    finally:
        await nc.close()
    seen = [((one.headers or {}).get("Nats-Subject", "").rsplit(".")[-1], (one.headers or {})) for one in events]
    assert {kind for kind, _ in seen} == {"state", "segments"}
    assert [headers.get("traceparent") for _, headers in seen] == [trace] * len(seen)


async def test_a_slow_receiver_holds_up_nobody(house: House) -> None:
    """While one receiver lets every call hang, others are called at once, for the same tenant and for others."""
    me, them = await house.sign_up(), await house.sign_up()
    until = asyncio.Event()
    house.other.answers["/hang"] = [silence(until)]
    slow = [await me.submit(recording(n), callback_url=house.other.url("/hang")) for n in range(14)]
    await house.other.called("/hang", 4)
    for caller in (me, them):
        job = await caller.submit(recording(50), callback_url=house.receiver.url("/fast"))
        log = await log_of(caller, job, "delivered")
        finished = (await caller("GET", f"/jobs/{job}")).json()["timings"]["finished"]
        assert log["attempts"][0]["at"] - finished < TIMEOUT  # a call that hangs takes that long
    theirs = await them.submit(recording(51), callback_url=house.other.url("/theirs"))
    await log_of(them, theirs, "delivered")
    until.set()
    house.other.answers["/hang"] = [status(204)]
    for job in slow:
        await log_of(me, job, "delivered")


async def test_what_is_refused_at_the_door(house: House) -> None:
    """An inner address, a wrong port, a word that is no `callback_include`, and one without an address."""
    me = await house.sign_up()

    async def refused(**params: str) -> Reply:
        return await me("POST", "/jobs", params=params, data=recording())

    assert (await refused(callback_url="https://127.0.0.1/")).code == "callback_url_refused"
    assert (await refused(callback_url="http://example.com:22/")).code == "callback_url_refused"
    assert (await refused(callback_url="https://example.com/", callback_include="audio")).code == "option_invalid"
    assert (await refused(callback_include="transcript")).code == "option_invalid"
    late = await me("POST", "/jobs", data=form(recording(), callback_url="https://10.0.0.1/"))
    assert late.code == "callback_url_refused"
    assert (await me("GET", "/jobs")).json()["jobs"] == []


async def test_an_erased_job_is_told_no_more(house: House) -> None:
    """Erasing a job takes the log of its callback along, and ends the calls about it."""
    me = await house.sign_up()
    house.receiver.answers["/erased"] = [status(500)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/erased"))
    await house.receiver.called("/erased", 4)
    await me("DELETE", f"/jobs/{job}")
    assert (await me("GET", f"/jobs/{job}/deliveries")).code == "job_erased"
    assert (await me("POST", f"/jobs/{job}/deliveries")).code == "job_erased"


async def test_no_log_holds_an_address_or_a_secret(house: House) -> None:
    """Neither a callback's URL nor a secret appears in anything that a process wrote."""
    me = await house.sign_up()
    secret = await secret_of(me)
    job = await me.submit(recording(), callback_url=house.receiver.url("/canary-5e3c?token=hush"))
    await log_of(me, job, "delivered")
    written = "".join(path.read_text() for path in house.stack.home.logs.glob("*.log"))
    assert job in written
    assert "canary-5e3c" not in written
    assert secret.removeprefix("whsec_")[:20] not in written


@asynccontextmanager
async def operator(house: House) -> AsyncIterator[JetStreamContext]:
    """The operator's hand in the bus."""
    nc = await nats.connect(house.stack.nats_url, user="admin", password=house.stack.nats_password())
    try:
        yield nc.jetstream()
    finally:
        await nc.close()


async def left_the_bus(house: House, job: str) -> None:
    """Wait until nothing more is to be done about this job's callback."""
    mine = subjects.callback("*", "*", job)
    async with operator(house) as js, asyncio.timeout(30):
        while (await js.stream_info(subjects.CALLBACKS, subjects_filter=mine)).state.subjects:
            await asyncio.sleep(0.05)


POINTS = [
    *("offer:callbacks:before", "offer:callbacks:after", "cas:deliveries:before", "cas:deliveries:after"),
    *("put:callback:before", "put:callback:after", "ack:callbacks:before", "ack:callbacks:after"),
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_any_write(calm: House, point: str) -> None:
    """Killed before or after each of its writes, ingest tells all the same, under one id and with one body."""
    me = await calm.sign_up()
    path = "/" + point.replace(":", "-")
    ingest = calm.stack.process("ingest")
    run = ingest.runs
    (calm.stack.home.root / "failpoint").write_text(point)
    job = await me.submit(recording(), callback_url=calm.receiver.url(path))
    assert await ingest.wait_exit(run, 30) == 137
    await ingest.wait_run(run + 1)
    log = await log_of(me, job, "delivered")
    await left_the_bus(calm, job)
    calls = calm.receiver.at(path)
    # Only a kill between the answer and the line in the log makes a second call: nobody can know of the first.
    assert len(calls) == (2 if point == "cas:deliveries:before" else 1)
    assert len({(call.headers["webhook-id"], call.body) for call in calls}) == 1
    assert len(log["attempts"]) == 1
    assert log["attempts"][0]["at"] <= time.time()


async def test_a_bus_that_lost_everything_tells_nobody_again(calm: House) -> None:
    """With every stream and bucket gone, what was told is not told again, and what comes is told."""
    me = await calm.sign_up()
    url = calm.receiver.url("/lost")
    job = await me.submit(recording(), callback_url=url)
    await log_of(me, job, "delivered")
    await left_the_bus(calm, job)
    async with operator(calm) as js:
        for stream in subjects.STREAMS:
            await js.delete_stream(stream)
    async with asyncio.timeout(60):
        while (await me("GET", f"/jobs/{job}")).status != 200:
            await asyncio.sleep(0.2)
        while (reply := await me("POST", "/jobs", params={"callback_url": url}, data=recording(1))).status != 202:
            await asyncio.sleep(0.2)
    await log_of(me, reply.json()["job_id"], "delivered")
    assert [call.json()["data"]["job_id"] for call in calm.receiver.at("/lost")] == [job, reply.json()["job_id"]]
    assert (await log_of(me, job))["state"] == "delivered"
