"""Over HTTP through the whole service: what only an engine makes true."""

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import nats
import pytest

from infra.stack import Stack
from services.contracts import subjects
from tests import media
from tests.doors.caller import Caller, form

TALK = media.encode(media.talk(3.0, seed=2), "wav")


@pytest.fixture
async def me(stack: Stack) -> AsyncIterator[Caller]:
    """A fresh tenant of the whole service."""
    async with aiohttp.ClientSession() as session:
        yield await Caller(session, stack.http_url).sign_up()


async def test_models_are_those_of_the_engines(me: Caller) -> None:
    """The list of models is what the engines announced; one without weights is refused with those that have them."""
    listed = {model["id"]: model for model in (await me("GET", "/v1/models")).json()["data"]}
    assert listed["base"]["available"] is True
    away = [name for name, model in listed.items() if not model["available"]]
    # The list also names models as other services call them; a refusal names the models themselves.
    available = ["base", "tiny.en"]
    assert set(available) <= listed.keys() - set(away)
    reply = await me("POST", "/transcribe", params={"model": away[0]}, data=TALK)
    assert (reply.status, reply.code) == (422, "model_not_available")
    assert reply.json()["available"] == available
    unknown = await me("POST", "/transcribe", params={"model": "huge"}, data=TALK)
    assert (unknown.code, unknown.json()["available"]) == ("model_unknown", available)


@pytest.mark.parametrize(
    ("recording", "code"),
    [
        (b"this is no recording" * 100, "not_audio"),
        (media.picture_only(), "no_audio_track"),
        (media.encode(media.silence(0.0), "wav"), "empty_audio"),
    ],
    ids=["text", "pictures", "no samples"],
)
async def test_what_cannot_be_transcribed_says_why(me: Caller, recording: bytes, code: str) -> None:
    """What is no recording with sound is answered with the reason, at once and whenever the job is looked at."""
    reply = await me("POST", "/transcribe", data=recording)
    assert (reply.status, reply.code) == (422, code)
    view = (await me("GET", f"/jobs/{reply.json()['job_id']}")).json()
    assert (view["state"], view["failure"]["code"]) == ("failed", code)


async def test_a_job_tells_how_it_went(me: Caller) -> None:
    """A finished job has all its timings in order, all of its audio done, and its result in every format."""
    reply = await me("POST", "/transcribe", data=form(TALK))
    job = reply.json()["job_id"]
    view = (await me("GET", f"/jobs/{job}")).json()
    times = [view["timings"][name] for name in ("accepted", "preparing", "started", "finished")]
    assert times == sorted(times)
    assert (view["state"], view["progress"], view["queue"]) == ("completed", 1.0, None)
    assert view["audio_done"] == pytest.approx(view["duration"], abs=0.05)
    for name in ("json", "verbose_json", "text", "srt", "vtt", "tsv"):
        assert (await me("GET", view["links"]["result"], params={"format": name})).status == 200


async def test_usage_counts_what_was_heard(me: Caller) -> None:
    """After a job the account shows its seconds, and no unfinished job."""
    await me("POST", "/transcribe", data=form(TALK))
    async with asyncio.timeout(60):
        while (usage := (await me("GET", "/usage")).json())["unfinished_jobs"]:
            await asyncio.sleep(0.1)
    assert usage["seconds_today"] == pytest.approx(3.0, abs=0.1)
    assert usage["bytes"] == len(TALK)


async def test_every_process_is_found_on_the_bus(stack: Stack) -> None:
    """The operator's `nats micro list` shows keys with its endpoints, ingest and the transcriber."""
    found: dict[str, dict[str, Any]] = {}
    login = {"user": "admin", "password": stack.nats_password(), "inbox_prefix": b"_INBOX_admin"}
    nc = await nats.connect(stack.nats_url, **login)
    try:
        answers = await nc.subscribe(inbox := nc.new_inbox())
        await nc.publish("$SRV.INFO", reply=inbox)
        async with asyncio.timeout(90):
            while found.keys() != {"ingest", "keys", "transcriber"}:
                one = json.loads((await answers.next_msg(30)).data)
                found[one["name"]] = one
    finally:
        await nc.close()
    assert {one["subject"] for one in found["keys"]["endpoints"]} >= {subjects.KEYS_VERIFY, subjects.KEYS_CREATE}
    assert (found["ingest"]["endpoints"], found["transcriber"]["endpoints"]) == ([], [])


async def test_each_channel_is_heard_once(me: Caller) -> None:
    """Of a call in stereo each channel's speech is heard as it was said, under its channel; a twin costs nothing."""
    left, right = media.talk(20.0, seed=3), media.talk(20.0, seed=5)
    asked = {"channels": "separate", "channel_labels": "agent,customer"}
    answer = (await me("POST", "/transcribe", params=asked, data=io.BytesIO(media.stereo(left, right)))).json()
    assert [channel["label"] for channel in answer["channels"]] == ["agent", "customer"]
    for channel, samples in zip(answer["channels"], (left, right), strict=True):
        assert channel["words"]
        after = 0
        for word in channel["words"]:
            span, _, digest = word["word"].strip().partition(":")
            first, last = map(int, span.split("-"))
            assert first >= after
            assert hashlib.sha256(samples[first : last + 1].tobytes()).hexdigest()[:16] == digest
            after = last + 1
        heard = channel["coverage"]
        total = heard["transcribed"] + heard["non_speech"]["seconds"] + heard["failed"]["seconds"]
        assert total == pytest.approx(20.0, abs=0.05)
        assert channel["seconds"] == 20.0
    twins = (await me("POST", "/transcribe", params=asked, data=io.BytesIO(media.stereo(left, left)))).json()
    assert [channel["same_as"] for channel in twins["channels"]] == [None, 0]
    assert twins["channels"][0]["words"] == answer["channels"][0]["words"]
