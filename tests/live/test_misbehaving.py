"""Clients that do what they should not: each is told so, none takes more than its share, and no word is lost by it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress

import aiohttp
import numpy as np
import psutil
import pytest

from infra.stack import Stack
from infra.stack.process import Process
from services.contracts import subjects
from services.contracts.live import OFFSET, OP, RESUME_WITHIN, Op
from services.ingest.http import pace, wire
from services.runtime.bus import connect_bus
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE, check_finals, recorded, recording_of, session, settled, speaker
from tests.media import RATE
from tests.speech import amid_silence, spoken, word_errors
from tests.support import operator_of

SAID = spoken("en")
ONCE = amid_silence(SAID, before=0.5, after=1.0)
TWICE = np.concatenate([ONCE, ONCE])
SOUND = ONCE.astype("<i2").tobytes()


async def test_frames_that_are_cut_anywhere_and_text_that_is_nothing(me: Caller) -> None:
    """Frames of odd lengths are one stream of samples; what cannot be read is told, and the session goes on."""
    nothing = ["", "no JSON", "[1]", "{}", '{"type": "sing"}', '{"type": "start"}', "[" * 5000]
    pieces = [1, 1, 3, 1599, 4801, 3333]
    async with session(me) as (it, job):
        at = 0
        for n in range(20):
            size = pieces[n % len(pieces)]
            await it.ws.send_bytes(SOUND[at : at + size])
            at += size
            await it.ws.send_bytes(b"")
            if n < len(nothing):
                await it.ws.send_str(nothing[n])
                assert (await it.until("error"))["code"] == "malformed_request"
        await it.send(SOUND[at:], piece=4801)
        summary = await it.close()
        assert word_errors(SAID, check_finals(it.of("final"), len(ONCE) / RATE)) <= 0.2
        assert summary["state"] == "completed"
        assert await recording_of(me, job) == SOUND


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"sample_rate": 11}, "sample_rate"),
        ({"encoding": "mp3"}, "encoding"),
        ({"loudness": 11}, "loudness"),
        ({"channels": "two"}, "channels"),
    ],
)
async def test_a_wrong_start_names_its_field(me: Caller, said: dict[str, object], named: str) -> None:
    """A `start` that cannot be opens nothing and says why; the same socket may say it better."""
    async with speaker(me) as it:
        await it.say("start", **said)
        error = await it.until("error")
        assert (error["code"], f"`{named}`" in error["detail"]) == ("malformed_request", True)
        await it.say("finalize")
        assert "no live session" in (await it.until("error"))["detail"]


async def test_a_frame_that_is_too_large(me: Caller) -> None:
    """It closes the socket with 1009 and is not heard; the session is resumed and has all that came before."""
    async with speaker(me) as it:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND)
        while (await it.until("received"))["received"] < len(SOUND):
            pass
        with suppress(ConnectionError):  # it is refused by its first bytes
            await it.ws.send_bytes(bytes(wire.LARGEST + 1))
        while await it.next() is not None:
            pass
        assert it.ws.close_code == 1009
    async with speaker(me) as it:
        await it.say("resume", session_id=job)
        assert (await it.until("ready"))["received"] == len(SOUND)
        await it.close()
    assert await recording_of(me, job) == SOUND


async def test_much_faster_than_people_speak(me: Caller) -> None:
    """Beyond half a minute audio is taken in four times as fast as it is spoken, not faster, and all of it is heard."""
    rate, seconds = 8000, 4 * pace.AHEAD + 20.0
    begun = time.monotonic()  # by the door's clock it is later
    async with session(me, encoding="mulaw", sample_rate=rate) as (it, _):
        await it.send(b"\xff" * int(rate * seconds), piece=rate * 10)
        while True:
            told = await it.until("received")
            fastest = pace.FASTEST * (time.monotonic() - begun + pace.AHEAD)
            assert told["seconds"] <= fastest + 10.0 + 1.0  # a piece, and what the clocks differ by
            if told["seconds"] == seconds:
                break
        assert abs((await it.close())["duration"] - seconds) < 0.1


async def test_more_than_a_session_may_have(me: Caller, stack: Stack) -> None:
    """Where the door took no more, the words of what it took are there, and the job says that there was more."""
    async with speaker(me) as it, connect_bus(operator_of(stack)) as admin:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND)
        while (await it.until("received"))["received"] < len(SOUND):
            pass
        last = await admin.js.get_last_msg(subjects.LIVE, subjects.live_audio(job), direct=True)
        said = {OP: Op.LIMIT, OFFSET: str(len(SOUND))}
        await admin.append(subjects.live_audio(job), b"", last.seq or 0, said)
        with suppress(ConnectionError):  # the end may come before all of it was sent
            await it.send(SOUND)
        summary = await it.until("summary")
    assert (summary["state"], summary["error"]["code"]) == ("completed", "too_long")
    assert word_errors(SAID, summary["text"]) <= 0.2
    assert await recording_of(me, job) == SOUND
    assert (await me("GET", f"/jobs/{job}/result")).json()["coverage"]["truncated"]


@pytest.mark.parametrize(("container", "codec", "twice"), [("webm", "libopus", True), ("mp4", "aac", False)])
async def test_a_second_recording(me: Caller, container: str, codec: str, twice: bool) -> None:
    """A recorder that begins anew on one socket is heard on, or ends the session and says why: never in silence."""
    recording = recorded(ONCE, container, codec)
    async with speaker(me) as it:
        await it.say("start", encoding="container")
        job = (await it.until("ready"))["job_id"]
        await it.send(recording)
        await it.send(recording, piece=len(recording))
        summary = await it.close()
    said = type(SAID)("en", TWICE, f"{SAID.text} {SAID.text}") if twice else SAID
    assert word_errors(said, summary["text"]) <= 0.2
    truncated = (await me("GET", f"/jobs/{job}/result")).json()["coverage"]["truncated"]
    assert (summary.get("error", {}).get("code"), truncated) == ((None, False) if twice else ("not_audio", True))


async def test_a_client_that_is_done_without_a_word(me: Caller) -> None:
    """One that knows of no protocol and closes its socket has its job at once, and holds no place for a minute."""
    async with speaker(me) as it:
        await it.send(SOUND)
        job = (await it.until("ready"))["job_id"]
        while (await it.until("received"))["received"] < len(SOUND):
            pass
        await it.ws.close()
        async with asyncio.timeout(RESUME_WITHIN / 2):
            ended = await settled(me, job)
    assert ended["state"] == "completed"


async def test_much_slower_than_people_speak(me: Caller) -> None:
    """A client that stops in the middle of a word for seconds costs nothing but those seconds."""
    async with session(me) as (it, _):
        heard = -1.0
        for at in range(0, len(SOUND), 64_000):
            await it.send(SOUND[at : at + 64_000])
            while heard < at / 2 / RATE - 2.0:
                heard = max(heard, (await it.until("interim", "final"))["position"])
            await it.say("keepalive")
        await it.close()
        assert word_errors(SAID, check_finals(it.of("final"), len(ONCE) / RATE)) <= 0.2


@pytest.fixture(scope="module")
async def impatient(stack: Stack) -> AsyncIterator[str]:
    """Address of an ingest that closes silent sockets after a moment."""
    process: Process = await stack.add("ingest", {"DESIFRE_STREAM_IDLE": "0.5"})
    yield f"http://127.0.0.1:{stack.wiring.ports[process.name]}"
    await process.stop()


async def test_a_socket_on_which_nothing_comes(me: Caller, impatient: str) -> None:
    """Who neither watches nor speaks is closed with 4408, Deepgram's clients with their 1011; who watches stays."""
    async with AsyncExitStack() as sockets, speaker(me, impatient) as it:
        assert await it.next() is None
        assert it.ws.close_code == 4408
        told = None
        while told is None:  # whoever is too late to watch is closed as well
            watching = await sockets.enter_async_context(speaker(me, impatient))
            with suppress(ConnectionError):
                await watching.say("watch", job_id="all")
            told = await watching.next()
        assert told["type"] == "watching"
        headers = {"Authorization": f"Token {me.key}"}
        async with me.session.ws_connect(f"{impatient}/v1/listen", headers=headers) as ws:
            assert (await ws.receive(timeout=PATIENCE)).data == 1011
        await watching.say("ping")
        assert (await watching.until("pong"))["type"] == "pong"


@pytest.mark.long
async def test_a_session_in_which_nothing_comes(me: Caller) -> None:
    """After a minute it is ended: the summary of what was heard, then 4408."""
    async with speaker(me) as it:
        await it.say("start")
        await it.until("ready")
        await it.send(SOUND)
        while (told := await it.next()) is not None and told["type"] != "summary":
            pass
        assert told is not None
        assert (told["state"], await it.next(), it.ws.close_code) == ("completed", None, 4408)
    assert told["text"] == check_finals(it.of("final"), len(ONCE) / RATE).strip()


@pytest.mark.long
async def test_a_client_that_never_reads(me: Caller, stack: Stack) -> None:
    """It is cut off when nothing more goes out, the server keeps none of it, and the session is resumed whole."""
    pid = stack.process("ingest").pid
    assert pid is not None
    ingest = psutil.Process(pid)
    async with speaker(me) as it:
        await it.say("start")
        job = (await it.until("ready"))["job_id"]
        await it.send(SOUND)
        await it.until("received")
        before = ingest.memory_info().rss
        it.ws._conn.transport.pause_reading()  # type: ignore[union-attr]

        async def ask_for_ever() -> None:
            while True:  # each is answered by an error of some hundred bytes
                await it.ws.send_str("no JSON" * 100)

        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            await asyncio.wait_for(ask_for_ever(), PATIENCE)
        assert ingest.memory_info().rss - before < 32 << 20
    async with speaker(me) as it:
        await it.say("resume", session_id=job)
        assert (await it.until("ready"))["received"] == len(SOUND)
        await it.close()
    assert word_errors(SAID, check_finals(it.of("final"), len(ONCE) / RATE)) <= 0.2
