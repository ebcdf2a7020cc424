"""A clip of another key, sent while a long recording is being transcribed, or a very long one prepared."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

import aiohttp

from bench.client import Client
from bench.harness import Row, at, settle
from bench.rig import Rig, Service
from bench.speech import Recording, hours_long

AFTER = 10.0
"""Seconds into the long recording at which the first clip is sent; sooner where the recording is made shorter."""
BETWEEN = 1.0
"""Seconds from an answer to the next clip."""
P95 = 4.0
LIVE_P99 = 50.0
"""Milliseconds."""
PROBE = 0.05
"""Seconds between two looks at /livez."""


async def measure(rig: Rig) -> Row:
    """Both, and `/livez` meanwhile."""
    clip = rig.speech.clips(1, 11, 11)[0]
    recording = rig.speech.long(rig.sizes.long)
    after = min(AFTER, recording.seconds / 60)
    row = Row(
        f"a clip of {clip.seconds:.0f} s of another key, {after:.1f} s into a recording of {recording.seconds:.0f} s, "
        f"and into the preparing of one of {rig.sizes.hours / 3600:g} h"
    )
    async with rig.service() as service:
        other = await service.client()
        alone = [(await other.transcribe(clip.path)).seconds for _ in range(3)]
        row.notes.append(f"the clip alone: {median(alone):.2f} s")
        async with livez(service) as answers:
            first, later, whole = [], [], []
            for _ in range(rig.sizes.behind):
                await settle()
                waits, seconds = await _behind_long(service, other, recording, clip, after)
                first.append(waits[0])
                later += waits[1:]
                whole.append(seconds)
            row.figures.append(at(0.95, "upload to answer, into the recording, p95", first, "s", P95))
            if later:
                row.figures.append(at(0.95, "the clips after that one, p95", later, "s", P95))
            very_long = await asyncio.to_thread(hours_long, recording, rig.sizes.hours, rig.folder / "hours.mka")
            preparing, note = await _behind_preparing(service, other, very_long, clip, after, 3 * rig.sizes.behind)
            row.figures.append(at(0.95, "upload to answer, into the preparing, p95", preparing, "s", P95))
        row.figures.append(at(0.99, "/livez meanwhile, p99", answers, "ms", LIVE_P99))
        row.notes += [f"the long recording with clips before it: {median(whole):.1f} s", note]
        row.notes.append(f"/livez: slowest {max(answers):.0f} ms")
    row.samples = {"first": first, "later": later, "preparing": preparing, "alone": alone, "long": whole}
    return row


async def _behind_long(
    service: Service, other: Client, recording: Recording, clip: Recording, after: float
) -> tuple[list[float], float]:
    """Seconds of each clip sent while the recording was on the engine, the first after `after`; and the recording's."""
    owner = await service.client()
    began = time.perf_counter()
    job = await owner.submit(recording.path)
    ended = asyncio.create_task(owner.completed(job), name="the long recording")
    await asyncio.sleep(max(0.0, began + after - time.perf_counter()))
    waits: list[float] = []
    while not ended.done() or not waits:
        waits.append((await other.transcribe(clip.path)).seconds)
        await asyncio.wait((ended,), timeout=BETWEEN)
    await ended
    return waits, time.perf_counter() - began


async def _behind_preparing(
    service: Service, other: Client, recording: Recording, clip: Recording, after: float, count: int
) -> tuple[list[float], str]:
    """Seconds of each clip, and how far the preparing was when the last one was answered."""
    owner = await service.client()
    job = await owner.submit(recording.path)
    await asyncio.sleep(after)
    waits: list[float] = []
    for _ in range(count):
        waits.append((await other.transcribe(clip.path)).seconds)
        await asyncio.sleep(BETWEEN)
    view = await owner.look(job)
    share = view["duration"] / recording.seconds
    await owner.erase(job)
    note = f"after {count} clips {share:.0%} of the {recording.seconds / 3600:g} h were prepared"
    return waits, note if share < 1 else f"{note}: it was over before, so these clips say less than they should"


@asynccontextmanager
async def livez(service: Service) -> AsyncIterator[Sequence[float]]:
    """Milliseconds that each answer of /livez took while the block ran."""
    took: list[float] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        while True:
            began = time.perf_counter()
            async with session.get(f"{service.stack.http_url}/livez") as answer:
                await answer.read()
            took.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(PROBE)

    # A session of its own: what is measured is the service, not a wait for one of the client's connections.
    async with aiohttp.ClientSession() as session:
        task = asyncio.create_task(ask(session), name="livez")
        try:
            yield took
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
