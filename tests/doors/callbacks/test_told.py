"""Callbacks on the whole service: signed, told once, until they are heard, whatever is restarted meanwhile."""

import asyncio
import base64
import io
import json
from typing import Any

import nats
import pytest
from minio import Minio
from standardwebhooks import Webhook, WebhookVerificationError

from services.contracts import subjects
from services.runtime.jsapi import read_batch
from tests.doors.callbacks.house import House, log_of, recording, restart, secret_of
from tests.doors.caller import Caller, Reply, form
from tests.doors.receiver import status


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
    async with asyncio.timeout(60):
        while job not in (written := "".join(path.read_text() for path in house.stack.home.logs.glob("*.log"))):
            await asyncio.sleep(0.05)
    assert "canary-5e3c" not in written
    assert secret.removeprefix("whsec_")[:20] not in written
