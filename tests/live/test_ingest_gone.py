"""An ingest that ends in mid-session: the client goes on at another one, and nothing is missing or comes twice."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import numpy as np
import pytest

from infra.stack import Stack
from infra.stack.process import Process
from tests.doors.caller import Caller
from tests.live.speaker import Speaker, check_finals, recording_of, speaker
from tests.media import RATE
from tests.speech import amid_silence, spoken, word_errors

SAID = spoken("en")
ONCE = amid_silence(SAID, before=0.5, after=1.0)
TWICE = np.concatenate([ONCE, ONCE])
SOUND = TWICE.astype("<i2").tobytes()
GONE = (ConnectionError, aiohttp.ClientError, AssertionError)
"""What a client meets whose ingest ends."""


@pytest.fixture(scope="module")
async def second(stack: Stack) -> AsyncIterator[Process]:
    """Another ingest."""
    process = await stack.add("ingest")
    yield process
    await process.stop()


async def break_off(it: Speaker, ingest: Process, how: signal.Signals) -> None:
    """Speak until words are final, and on until the server goes; everything that it still says is read."""
    half = len(SOUND) // 2
    await it.send(SOUND[:half])
    await it.until("final")

    async def speak_on() -> None:
        with suppress(*GONE):
            for at in range(half, len(SOUND), 3333):
                await it.send(SOUND[at : at + 3333])
                await asyncio.sleep(0.02)  # five times as fast as people speak: the server goes in the middle

    speaking = asyncio.create_task(speak_on(), name="speaking")
    await it.until("received")
    ingest.kill(how)
    with suppress(*GONE):
        while await it.next() is not None:
            pass
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_session_goes_on_at_another_ingest(
    me: Caller, stack: Stack, second: Process, how: signal.Signals
) -> None:
    """Its client is told from which byte to send again; words and recording are those of one unbroken session."""
    await second.wait_ready()
    async with speaker(me, f"http://127.0.0.1:{stack.wiring.ports[second.name]}") as first:
        await first.say("start")
        job = (await first.until("ready"))["job_id"]
        await break_off(first, second, how)
        safe = first.of("received")[-1]["received"]
        if how is signal.SIGTERM:
            assert first.told[-1] == {"type": "closing", "code": 1001, "reason": "stopping"}
            assert first.ws.close_code == 1001
    async with speaker(me) as then:
        cursor = next(one["cursor"] for one in reversed(first.told) if "cursor" in one)
        await then.say("resume", session_id=job, after=cursor)
        again = await then.until("ready")
        assert again["resumed"]
        assert safe <= again["received"] <= len(SOUND)
        await then.send(SOUND[again["received"] :])
        summary = await then.close()
    text = check_finals([*first.of("final"), *then.of("final")], len(TWICE) / RATE)
    assert summary["text"] == text.strip()
    assert word_errors(type(SAID)("en", TWICE, f"{SAID.text} {SAID.text}"), text) <= 0.2
    assert await recording_of(me, job) == SOUND


async def test_a_session_that_has_ended_is_heard_out(me: Caller) -> None:
    """Who lost the connection after `close` resumes to read the last words and the summary; no more audio is taken."""
    async with speaker(me) as first:
        await first.say("start")
        job = (await first.until("ready"))["job_id"]
        await first.send(SOUND[: len(SOUND) // 2])
        await first.say("close")
    for _ in range(2):  # before it has become a job, and after
        async with speaker(me) as then:
            await then.say("resume", session_id=job)
            assert (await then.until("ready"))["received"] == len(SOUND) // 2
            with suppress(ConnectionError):  # the second time everything is told at once, and the socket closed
                await then.ws.send_bytes(bytes(320))
            summary = await then.until("summary")
            while await then.next() is not None:
                pass
            assert then.ws.close_code == 1000
        assert summary["text"] == check_finals(then.of("final"), len(ONCE) / RATE).strip()
        assert {one["code"] for one in then.of("error")} <= {"session_ended"}
    assert await recording_of(me, job) == SOUND[: len(SOUND) // 2]
