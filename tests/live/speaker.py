"""Who speaks: a client of the live socket that keeps everything that it was told."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import av
import numpy as np

from services.transcriber.prepare.decode import Recording
from services.transcriber.prepare.media import Limits
from services.transcriber.prepare.reading import Flow
from tests.doors.caller import Caller
from tests.media import RATE, Samples

PATIENCE = 100.0
"""Seconds that a test waits for a message at most: a session waits for its client for a minute."""
PIECE = RATE // 10


@dataclass
class Speaker:
    """One socket of one session."""

    ws: aiohttp.ClientWebSocketResponse
    told: list[dict[str, Any]] = field(default_factory=list)

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a message."""
        await self.ws.send_str(json.dumps({"type": kind, **fields}))

    async def speak(self, samples: Samples) -> None:
        """Send raw samples in pieces of a tenth of a second, as fast as they are taken."""
        for at in range(0, len(samples), PIECE):
            await self.ws.send_bytes(samples[at : at + PIECE].astype("<i2").tobytes())

    async def send(self, sound: bytes, *, piece: int = 2 * PIECE) -> None:
        """Send bytes of any encoding in pieces."""
        for at in range(0, len(sound), piece):
            await self.ws.send_bytes(sound[at : at + piece])

    async def next(self) -> dict[str, Any] | None:
        """The next message; None when the socket is closed."""
        message = await self.ws.receive(timeout=PATIENCE)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        found = json.loads(message.data)
        assert isinstance(found, dict)
        self.told.append(found)
        return found

    async def until(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds."""
        while (found := await self.next()) is not None:
            if found["type"] in kinds:
                return found
        raise AssertionError(f"closed with {self.ws.close_code} before {kinds}: {[one['type'] for one in self.told]}")

    async def close(self) -> dict[str, Any]:
        """Be done; the summary. A session that has ended by itself may have closed the socket already."""
        with suppress(ConnectionError):
            await self.say("close")
        summary = await self.until("summary")
        assert await self.next() is None
        return summary

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What was told of this kind so far."""
        return [one for one in self.told if one["type"] == kind]


@asynccontextmanager
async def speaker(caller: Caller, base: str | None = None) -> AsyncIterator[Speaker]:
    """A socket, with the key in its path."""
    async with caller.session.ws_connect(f"{base or caller.base}/ws/{caller.key}") as ws:
        yield Speaker(ws)


def check_finals(finals: Sequence[dict[str, Any]], duration: float) -> str:
    """The text of finals, of which none is missing, none comes twice, and whose words are in order."""
    assert [final["n"] for final in finals] == list(range(len(finals)))
    words = [word for final in finals for word in final["words"]]
    at = 0.0
    for word in words:
        assert at <= word["start"] <= word["end"] <= duration + 0.05, word
        assert 0 <= word["probability"] <= 1
        at = word["end"]
    text = "".join(final["text"] for final in finals)
    assert text == "".join(word["word"] for word in words)
    return text


def recorded(samples: Samples, container: str = "webm", codec: str = "libopus") -> bytes:
    """What a browser's MediaRecorder makes of these samples."""
    file = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof"} if container == "mp4" else {}
    with av.open(file, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else RATE, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, frame_size=stream.frame_size or 960)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis].astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = RATE
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(ready):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return file.getvalue()


def decoded(sound: bytes, wanted: int = 0) -> Samples:
    """What a session hears of such a recording, from the sample `wanted` on."""
    fd = os.memfd_create("recorded")
    try:
        os.write(fd, sound)
        os.lseek(fd, 0, os.SEEK_SET)
        blocks = list(Recording(Flow(fd), Limits(live=True), wanted=wanted).blocks())
    finally:
        os.close(fd)
    return np.concatenate([np.zeros((1, 0), np.int16), *blocks], axis=1)[0]


async def recording_of(caller: Caller, job: str) -> bytes:
    """The raw samples that a session's job has kept, without their header."""
    return (await caller("GET", f"/jobs/{job}/audio")).body[44:]


async def settled(caller: Caller, job: str) -> dict[str, Any]:
    """A job that has ended, as its owner sees it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with caller.session.get(
                f"{caller.base}/jobs/{job}?wait=20", headers={"x-api-key": caller.key or ""}
            ) as answer:
                found = await answer.json()
            if found["state"] in ("completed", "failed", "cancelled", "erased"):
                assert isinstance(found, dict)
                return found


@asynccontextmanager
async def session(caller: Caller, **options: object) -> AsyncIterator[tuple[Speaker, str]]:
    """A running session and its id; what is left of it is cancelled, for engines hear only so many."""
    async with speaker(caller) as it:
        await it.say("start", **options)
        job = (await it.until("ready"))["job_id"]
        try:
            yield it, job
        finally:
            await caller("DELETE", f"/jobs/{job}")
            await settled(caller, job)


async def counted(caller: Caller) -> None:
    """Wait until the ledger has counted what the tenant's jobs came to."""
    async with asyncio.timeout(PATIENCE):
        while (await caller("GET", "/usage")).json()["unfinished_jobs"]:
            await asyncio.sleep(0.05)
