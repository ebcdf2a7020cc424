"""Live sessions with the real engine: what is said is heard, once, and becomes a job like any other."""

import asyncio
import json
import secrets
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import av
import nats
import numpy as np
import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.live import OFFSET
from tests.doors.bucket import operator
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE, check_finals, recorded, settled, speaker
from tests.media import RATE, silence
from tests.speech import amid_silence, spoken, word_errors

SAID = spoken("en")
SOUND = amid_silence(SAID, before=0.5, after=1.0)
SECONDS = len(SOUND) / RATE


async def test_a_session_from_start_to_summary(me: Caller) -> None:
    """Interims come before finals, the finals are the transcript, and the job has recording, coverage and formats."""
    async with speaker(me) as it:
        await it.say("start", model="tiny.en", sample_rate=16000)
        ready = await it.until("ready")
        assert ready["received"] == 0
        await it.speak(SOUND)
        summary = await it.close()
        assert it.ws.close_code == 1000
    text = check_finals(it.of("final"), SECONDS)
    assert word_errors(SAID, text) <= 0.2
    assert it.of("final")[-1]["speech_final"]
    assert it.of("speech_started")
    assert summary["text"] == text.strip()
    assert abs(summary["duration"] - SECONDS) < 0.1
    job = await settled(me, ready["job_id"])
    assert (job["state"], job["door"]) == ("completed", "live")
    headers = {"x-api-key": me.key or ""}
    async with me.session.get(f"{me.base}/jobs/{job['job_id']}/result", headers=headers) as answer:
        result = await answer.json()
    assert result["text"] == text.strip()
    coverage = result["coverage"]
    parts = coverage["transcribed"] + coverage["non_speech"]["seconds"] + coverage["failed"]["seconds"]
    assert abs(parts - coverage["decoded"]) <= 0.05
    assert coverage["non_speech"]["seconds"] >= 0.5
    async with me.session.get(f"{me.base}/jobs/{job['job_id']}/result?format=srt", headers=headers) as answer:
        assert "-->" in await answer.text()
    async with me.session.get(f"{me.base}/jobs/{job['job_id']}/audio", headers=headers) as answer:
        sound = await answer.read()
    assert sound[44:] == SOUND.astype("<i2").tobytes()


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("ogg", "libopus"), ("mp4", "aac")])
async def test_what_browsers_record(me: Caller, container: str, codec: str) -> None:
    """A client that sends a MediaRecorder's pieces and nothing else reads the whole text so far in each message."""
    sound = recorded(SOUND, container, codec)
    async with speaker(me) as it:
        for at in range(0, len(sound), 8000):
            await it.ws.send_bytes(sound[at : at + 8000])
        summary = await it.close()
    final = it.of("final")[-1]
    assert final["text"] == summary["text"]
    assert word_errors(SAID, final["text"]) <= 0.25
    texts = [one["text"] for one in it.told if one["type"] in ("interim", "final")]
    assert all("segment" not in one or one["segment"]["text"].strip() in one["text"] for one in it.of("final"))
    assert texts


async def test_the_page_of_the_old_service(me: Caller, stack: Stack, tmp_path: Path) -> None:
    """With a key of the old users.db its pieces of a second and a half, the first a single byte, are read along."""
    key = f"tk_{secrets.token_hex(16)}"
    with closing(sqlite3.connect(tmp_path / "users.db")) as old, old:
        old.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, api_key TEXT, created_at TIMESTAMP)")
        old.execute("INSERT INTO users (username, api_key) VALUES ('mehmet', ?)", (key,))
    taken = await asyncio.to_thread(operator, stack, "exec", "keys-admin", "--", "import", str(tmp_path / "users.db"))
    assert taken.startswith("1 taken over")
    sound = recorded(SOUND)
    piece = round(len(sound) / SECONDS * 1.5)
    shown = ""
    async with me.session.ws_connect(f"{me.base}/ws/{key}", origin=me.base) as ws:
        await ws.send_bytes(sound[:1])
        for at in range(1, len(sound), piece):
            await ws.send_bytes(sound[at : at + piece])
        async with asyncio.timeout(PATIENCE):
            while word_errors(SAID, shown) > 0.25:
                # All that the old page does with a message.
                shown = json.loads((await ws.receive()).data).get("text", shown)
        await ws.send_str('{"type": "close"}')
        async for message in ws:
            shown = json.loads(message.data).get("text", shown)
    assert word_errors(SAID, shown) <= 0.25


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [("mulaw", 8000, 1), ("pcm_f32le", 44100, 2), pytest.param("alaw", 8000, 1, marks=pytest.mark.long)],
)
async def test_raw_encodings(me: Caller, encoding: str, rate: int, channels: int) -> None:
    """Telephone and studio formats are heard as well, whatever their rate and channels."""
    codecs = {"mulaw": ("pcm_mulaw", "s16"), "alaw": ("pcm_alaw", "s16"), "pcm_f32le": ("pcm_f32le", "flt")}
    codec, layout = codecs[encoding][0], "mono" if channels == 1 else "stereo"
    resampler = av.AudioResampler(codecs[encoding][1], layout, rate)
    frame = av.AudioFrame.from_ndarray(SOUND[np.newaxis].astype(np.int16), format="s16", layout="mono")
    frame.sample_rate = RATE
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, codecs[encoding][1]
    pieces = [
        bytes(packet)
        for ready in [*resampler.resample(frame), *resampler.resample(None)]
        for packet in encoder.encode(ready)
    ]
    async with speaker(me) as it:
        await it.say("start", encoding=encoding, sample_rate=rate, channels=channels)
        await it.until("ready")
        data = b"".join(pieces)
        for at in range(0, len(data), 32_000):
            await it.ws.send_bytes(data[at : at + 32_000])
        summary = await it.close()
    assert word_errors(SAID, summary["text"]) <= 0.3
    assert abs(summary["duration"] - SECONDS) < 0.2


async def test_sound_leaves_the_bus_with_the_end(me: Caller, stack: Stack) -> None:
    """When a session has ended there is none of its sound on the bus, and who resumes it late is told how it ended."""
    async with speaker(me) as it:
        await it.say("start")
        ready = await it.until("ready")
        await it.speak(SOUND)
        summary = await it.close()
    subject = subjects.live_audio(ready["session_id"])
    admin = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password())
    try:
        async with asyncio.timeout(30):
            while (await admin.jetstream().stream_info(subjects.LIVE, subject)).state.subjects != {subject: 1}:
                await asyncio.sleep(0.05)
        left = await admin.jetstream().get_last_msg(subjects.LIVE, subject, direct=True)
    finally:
        await admin.close()
    assert not left.data
    assert left.headers is not None
    assert left.headers[OFFSET] == str(len(SOUND) * 2)
    async with speaker(me) as late:
        await late.say("resume", session_id=ready["session_id"])
        assert (await late.until("summary"))["text"] == summary["text"]


async def test_silence_says_nothing(me: Caller) -> None:
    """Silence gives no words, and a finished job all the same."""
    async with speaker(me) as it:
        await it.say("start")
        await it.until("ready")
        await it.speak(silence(5.0))
        summary = await it.close()
    assert not it.of("final")
    assert not it.of("interim")
    assert (summary["state"], summary["text"]) == ("completed", "")


async def test_what_follows_a_long_silence_is_heard(me: Caller) -> None:
    """Sound that came faster than it is heard is all heard, also when the client has closed long before."""
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=3000)
        await it.until("ready")
        await it.speak(np.concatenate([silence(40.0), SOUND, SOUND, silence(30.0), SOUND]))
        summary = await it.close()
    thrice = type(SAID)("en", SOUND, " ".join([SAID.text] * 3))
    assert word_errors(thrice, check_finals(it.of("final"), 70 + 3 * SECONDS)) <= 0.25
    assert abs(summary["duration"] - 70 - 3 * SECONDS) < 0.1


async def test_a_dropped_connection_is_resumed(me: Caller) -> None:
    """Whoever comes back with id and cursor misses nothing, repeats nothing, and sends on from where it was heard."""
    async with speaker(me) as first:
        await first.say("start")
        ready = await first.until("ready")
        await first.speak(SOUND[: len(SOUND) // 2])
        seen = await first.until("final")
    async with speaker(me) as second:
        await second.say("resume", session_id=ready["session_id"], after=seen["cursor"])
        again = await second.until("ready")
        assert again["resumed"]
        assert 0 < again["received"] <= len(SOUND) // 2 * 2
        await second.speak(SOUND[again["received"] // 2 :])
        summary = await second.close()
    text = check_finals([*first.of("final"), *second.of("final")], SECONDS)
    assert summary["text"] == text.strip()
    assert word_errors(SAID, text) <= 0.2
    assert abs(summary["duration"] - SECONDS) < 0.1


async def test_two_sockets_do_not_both_speak(me: Caller) -> None:
    """A session that was resumed elsewhere is told so at the socket before, and closed with 4409."""
    async with speaker(me) as first, speaker(me) as second:
        await first.say("start")
        ready = await first.until("ready")
        await first.speak(silence(0.2))
        await first.until("received")
        await second.say("resume", session_id=ready["session_id"])
        await second.until("ready")
        with suppress(ConnectionError):  # one that only listens learns of it as well, and may have done so already
            await first.speak(silence(0.2))
        error = await first.until("error")
        assert error["code"] == "session_taken"
        assert await first.next() is None
        assert first.ws.close_code == 4409
        assert (await second.close())["state"] == "completed"


async def test_another_tenants_session_is_no_session(me: Caller) -> None:
    """A session is resumed by its tenant alone."""
    other = await Caller(me.session, me.base).sign_up()
    async with speaker(me) as mine, speaker(other) as theirs:
        await mine.say("start")
        ready = await mine.until("ready")
        await theirs.say("resume", session_id=ready["session_id"])
        assert (await theirs.until("error"))["code"] == "job_not_found"
        assert await theirs.next() is None  # there is nothing to wait for
        assert theirs.ws.close_code == 1008
        await mine.close()


async def test_garbage_is_told(me: Caller) -> None:
    """What is no audio ends the session with the reason."""
    async with speaker(me) as it:
        await it.say("start", encoding="container")
        await it.until("ready")
        await it.ws.send_bytes(b"this is not audio at all. " * 400)
        summary = await it.close()
    assert summary["state"] == "failed"
    assert summary["error"]["code"] == "not_audio"


async def test_the_third_session_comes_back_later(me: Caller) -> None:
    """Beyond what the engines can hear a session is refused with 1013, and says when to come back."""
    async with speaker(me) as one, speaker(me) as two, speaker(me) as three:
        for it in (one, two):
            await it.say("start")
            await it.until("ready")
        await three.say("start")
        assert (await three.until("error"))["code"] == "no_room_for_live"
        assert await three.next() is None
        assert three.ws.close_code == 1013
        await asyncio.gather(one.close(), two.close())


async def test_cancelling_ends_the_session(me: Caller, stack: Stack) -> None:
    """Who cancels the job of a running session ends it, without a recording; an erasure takes its words off the bus."""
    async with speaker(me) as it:
        await it.say("start")
        ready = await it.until("ready")
        await it.speak(silence(1.0))
        await it.until("claimed")
        audio = f"/jobs/{ready['job_id']}/audio"
        assert (await me("GET", audio)).code == "job_not_finished"
        assert (await me("POST", "/jobs", json={"source": ready["job_id"]})).code == "job_not_finished"
        headers = {"x-api-key": me.key or ""}
        async with me.session.delete(f"{me.base}/jobs/{ready['job_id']}", headers=headers) as answer:
            assert answer.status == 200
        assert (await it.until("summary"))["state"] == "cancelled"
        assert (await me("GET", audio)).code == "job_cancelled"
    async with me.session.delete(f"{me.base}/jobs/{ready['job_id']}", headers=headers) as answer:
        assert (await answer.json())["state"] == "erased"
    subject = subjects.live_out(ready["job_id"])
    admin = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password())
    try:
        async with asyncio.timeout(30):
            while (await admin.jetstream().stream_info(subjects.LIVE, subject)).state.subjects != {subject: 1}:
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
async def test_a_killed_engine_costs_a_pause_and_no_word(me: Caller, stack: Stack, how: signal.Signals) -> None:
    """A transcriber that ends in mid-sentence: what was final stays, nothing is missing, nothing comes twice."""
    long = np.concatenate([SOUND, SOUND])
    async with speaker(me) as it:
        await it.say("start")
        await it.until("ready")
        await it.speak(long[: len(long) // 2 - RATE])
        await it.until("final")
        stack.process("transcriber").kill(how)
        await it.speak(long[len(long) // 2 - RATE :])
        summary = await it.close()
        assert len(it.of("claimed")) >= 2  # more, where an engine stood still past its lease
    text = check_finals(it.of("final"), len(long) / RATE)
    assert summary["text"] == text.strip()
    twice = type(SAID)("en", long, f"{SAID.text} {SAID.text}")
    assert word_errors(twice, text) <= 0.2
    assert abs(summary["duration"] - len(long) / RATE) < 0.1
