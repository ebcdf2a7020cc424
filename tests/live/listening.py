"""What a session heard of the samples that were sent, by the cells of the digest engine; and when it said so."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from infra.stack import Stack
from infra.stack.process import Process
from services.contracts import subjects
from services.contracts.live import Lease
from services.runtime.bus import connect_bus
from services.runtime.jsapi import Unavailable
from services.transcriber.engine.digest import CELL, cells_of, digest_of
from services.transcriber.engine.protocol import Window
from services.transcriber.prepare.peaks import Peaks
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE, PIECE, Speaker, settled
from tests.media import RATE, Samples
from tests.speech import amid_silence, joined, sample
from tests.support import operator_of

LOUD = 300.0
"""Root mean square of a cell in which somebody certainly speaks."""
Cells = dict[int, str]
"""The word of each cell, by its number."""


@dataclass
class Listener(Speaker):
    """A speaker who notes when everything was told."""

    at: list[float] = field(default_factory=list)
    sent: int = 0
    """Samples."""

    async def next(self) -> dict[str, Any] | None:
        """The next message; None when the socket is closed."""
        found = await super().next()
        self.at.append(time.monotonic())
        return found

    def pause_after(self, moment: float) -> float:
        """Seconds from a moment to the next words; 0 if there were none any more."""
        words = (at for at, one in zip(self.at, self.told, strict=False) if one["type"] in ("interim", "final"))
        return next((at - moment for at in words if at > moment), 0.0)

    async def talk(self, samples: Samples, pace: float, over: asyncio.Event | None = None) -> None:
        """Say it `pace` times as fast as it was spoken, until the next pause after `over`, and be done."""
        began = time.monotonic()
        for at in range(0, len(samples), PIECE):
            piece = samples[at : at + PIECE]
            if over is not None and over.is_set() and not piece.any():
                break
            await asyncio.sleep(max(0.0, began + at / RATE / pace - time.monotonic()))
            await self.ws.send_bytes(piece.astype("<i2").tobytes())
            self.sent += len(piece)
        await self.say("close")


@asynccontextmanager
async def listening(stack: Stack, me: Caller, **start: Any) -> AsyncIterator[Listener]:
    """A session that has begun."""
    async with me.session.ws_connect(f"{stack.http_url}/ws/{me.key}", max_msg_size=0) as ws:
        it = Listener(ws)
        await it.say("start", **start)
        await it.until("ready")
        yield it


async def heard(stack: Stack, me: Caller, samples: Samples, pace: float, **start: Any) -> Listener:
    """A whole session of these samples, from start to summary."""
    async with listening(stack, me, **start) as it:
        talking = asyncio.create_task(it.talk(samples, pace), name="talk")
        await it.until("summary")
        await talking
    return it


def somebody(seconds: float) -> Samples:
    """Speech for at least so long: with pauses that end an utterance, and for half a minute without any."""
    fox, counting = sample("en", "quick_brown_fox"), sample("en", "counting")
    apart, running = joined([fox, counting], 0.9), joined([counting, fox] * 4, 0.1)
    pieces = itertools.cycle([apart.samples, apart.samples, running.samples])
    found: list[Samples] = []
    while sum(map(len, found)) < seconds * RATE:
        found.append(next(pieces))
    whole = joined([fox]).samples
    return np.concatenate([amid_silence(fox, before=0.4, after=0.6), *found, whole])


def cells(samples: Samples) -> Cells:
    """Of everything that was sent."""
    window = Window(samples.astype("<i2").tobytes(), 0.0)
    return {round(one.start * RATE) // CELL: digest_of(one) for one in cells_of(window)}


def loud(samples: Samples) -> set[int]:
    """The cells in which somebody certainly speaks."""
    whole = samples[: len(samples) // CELL * CELL].reshape(-1, CELL).astype(np.float64)
    return {int(n) for n in np.flatnonzero(np.sqrt((whole**2).mean(axis=1)) > LOUD)}


def told(finals: Iterable[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """The cells that finals tell, in their order."""
    words = [word["word"].strip() for final in finals for word in final["words"]]
    return [(int(word.partition("-")[0]) // CELL, word) for word in words]


def check(finals: Sequence[Mapping[str, Any]], samples: Samples, like: Cells) -> Cells:
    """What was heard is what was sent, in order, nothing twice, and nothing is missing that is in `like` and loud."""
    assert [final["n"] for final in finals] == list(range(len(finals)))
    found = told(finals)
    numbers = [n for n, _ in found]
    assert numbers == sorted(set(numbers)), "twice, or out of order"
    sent = cells(samples)
    assert all(sent[n] == word for n, word in found), "not what was sent"
    missing = sorted((like.keys() & loud(samples)) - set(numbers))
    assert not missing, f"not heard: {[n * CELL / RATE for n in missing]}"
    return dict(found)


async def check_job(me: Caller, it: Listener, samples: Samples) -> None:
    """The transcript is the finals, and the job has the length and the waveform of what was sent."""
    job = await settled(me, it.of("ready")[0]["job_id"])
    assert job["state"] == "completed"
    headers = {"x-api-key": me.key or ""}
    async with me.session.get(f"{me.base}/jobs/{job['job_id']}/result", headers=headers) as answer:
        result = await answer.json()
    assert result["text"] == "".join(final["text"] for final in it.of("final")).strip()
    assert abs(it.of("summary")[0]["duration"] - len(samples) / RATE) < 0.1
    drawn = Peaks()
    drawn.feed(samples.astype("<i2").tobytes())
    url = f"{me.base}/jobs/{job['job_id']}/peaks?points=20000"
    async with asyncio.timeout(PATIENCE):  # after a takeover it comes a moment after the summary
        while True:
            async with me.session.get(url, headers=headers) as answer:
                if answer.status == 200:
                    assert (await answer.json())["peaks"] == list(drawn.close())
                    return
            assert len(it.of("claimed")) > 1
            await asyncio.sleep(0.1)


def engine_child(stack: Stack) -> psutil.Process | None:
    """The process that computes, if there is one."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(stack.process("transcriber").pid).children():
            if "services.transcriber.engine.child" in child.cmdline():
                return child
    return None


async def holder(stack: Stack, session: str, *among: Process) -> Process:
    """Which of these transcribers hears the session."""
    async with connect_bus(operator_of(stack)) as bus, asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(Unavailable):
                held = await bus.kv(subjects.SESSIONS).get(session)
                pid = Lease.model_validate_json(held.value).process.split("/")[-2] if held else ""
                for one in among:
                    if str(one.pid) == pid:
                        return one
            await asyncio.sleep(0.05)


@asynccontextmanager
async def digest_stack(home: Path, **more: str) -> AsyncIterator[Stack]:
    """The whole service with the engine that tells which samples it heard."""
    settings = {
        "transcriber": {"DESIFRE_ENGINE": "digest", "DESIFRE_LIVE_SESSIONS": "8", **more},
        "ingest": {
            "DESIFRE_DEFAULT_MODEL": "tiny.en",
            "DESIFRE_RATE_LIMIT": "100000/minute",
            "DESIFRE_STALLED_AFTER": "1",
            "DESIFRE_RECONCILE_EVERY": "0.5",
        },
    }
    async with Stack(home, settings=settings, longest_restart_delay=0.05) as stack:
        yield stack
