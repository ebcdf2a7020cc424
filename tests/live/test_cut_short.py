"""What ends beneath a session, and what a session may begin with: quota, key, ticket, storage; no word is lost."""

import asyncio
import json
from contextlib import suppress

import aiohttp
import numpy as np
import pytest

from infra.stack import Stack
from services.contracts.errors import Code
from tests.doors.bucket import operator
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE, Speaker, check_finals, counted, recording_of, speaker
from tests.media import RATE, silence
from tests.speech import amid_silence, spoken, word_errors

SAID = spoken("en")
ONCE = amid_silence(SAID, before=0.5, after=1.0)
SOUND = ONCE.astype("<i2").tobytes()


async def test_the_quota_ends_in_the_middle(me: Caller, stack: Stack) -> None:
    """The session ends with the words so far, which are a transcript, and says why."""
    tenant = next(
        line.split("\t")[1]
        for line in operator(stack, "exec", "keys-admin", "--", "list").splitlines()
        if line.startswith(me.key_id)
    )
    operator(stack, "exec", "keys-admin", "--", "quota", tenant, "--hours", str(70 / 3600))
    async with speaker(me) as it:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        with suppress(ConnectionError):  # the end may come before all of it was sent
            await it.speak(np.concatenate([ONCE, silence(60.0), ONCE]))
        summary = await it.until("summary")
        while await it.next() is not None:
            pass
    assert (summary["state"], summary["error"]["code"]) == ("completed", "quota_exceeded")
    text = check_finals(it.of("final"), summary["duration"])
    assert summary["text"] == text.strip()
    assert word_errors(SAID, "".join(one["text"] for one in it.of("final") if one["end"] < 30.0)) <= 0.2
    assert (await me("GET", f"/jobs/{job}/result")).json()["text"] == text.strip()
    assert summary["duration"] >= 60.0
    await counted(me)
    async with speaker(me) as it:
        await it.say("start")
        if (found := await it.until("error", "ready"))["type"] == "ready":  # for what is left of the last second
            with suppress(ConnectionError):
                await it.speak(ONCE)
            found = (await it.until("summary"))["error"]
        assert found["code"] == "quota_exceeded"


async def test_a_key_that_is_revoked_in_mid_session(me: Caller) -> None:
    """Its socket is closed with 4403 within a second; another key of the tenant goes on with the session."""
    made = (await me("POST", f"/keys/{me.key_id}/rotate")).json()
    other = Caller(me.session, me.base, made["api_key"], made["key_id"])
    half = len(SOUND) // 2
    async with speaker(me) as it:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND[:half])
        await it.until("received")
        assert (await other("DELETE", f"/keys/{me.key_id}")).status in (200, 204)
        async with asyncio.timeout(PATIENCE):  # a second, on a machine that does nothing else
            while await it.next() is not None:
                pass
        assert it.told[-1] == {"type": "closing", "code": 4403, "reason": "revoked"}
        assert it.ws.close_code == 4403
    async with speaker(other) as it:
        await it.say("resume", session_id=job)
        await it.send(SOUND[(await it.until("ready"))["received"] :])
        await it.close()
    assert word_errors(SAID, check_finals(it.of("final"), len(ONCE) / RATE)) <= 0.2
    assert await recording_of(other, job) == SOUND


async def test_a_ticket_opens_a_session(me: Caller) -> None:
    """A page that holds no key speaks with a ticket, once; another tenant's ticket does not go on with its session."""
    ticket = (await me("POST", "/tickets")).json()["ticket"]
    stranger = await Caller(me.session, me.base).sign_up()
    theirs = (await stranger("POST", "/tickets")).json()["ticket"]
    async with me.session.ws_connect(f"{me.base}/ws", protocols=("desifre.v1", f"ticket.{ticket}")) as ws:
        it = Speaker(ws)
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND)
        async with me.session.ws_connect(f"{me.base}/ws/{theirs}") as other:
            await other.send_str(json.dumps({"type": "resume", "session_id": job}))
            assert (await other.receive_json(timeout=PATIENCE))["code"] == "job_not_found"
        await it.close()
    assert word_errors(SAID, check_finals(it.of("final"), len(ONCE) / RATE)) <= 0.2
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await me.session.ws_connect(f"{me.base}/ws/{ticket}")


async def test_the_storage_is_away_at_the_end(me: Caller, stack: Stack) -> None:
    """A session that is closed while nothing can be stored ends complete as soon as it can; none begins meanwhile."""
    store = stack.process("s3")
    async with speaker(me) as it:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND)
        await it.until("final")
        await store.stop()
        try:
            async with speaker(me) as late:
                await late.say("start")
                assert (await late.until("error"))["code"] == Code.UNAVAILABLE
            await it.say("close")
            while it.of("final")[-1]["end"] < SAID.seconds - 2.0:  # as far as the last words
                await it.until("final")
            await it.say("ping")
            await it.until("pong")
        finally:
            store.start()
            await store.wait_ready()
        summary = await it.until("summary")
        while await it.next() is not None:
            pass
        assert it.ws.close_code == 1000
    assert summary["text"] == check_finals(it.of("final"), len(ONCE) / RATE).strip()
    assert await recording_of(me, job) == SOUND
    await counted(me)
    await stack.wait_all_ready()
