"""A ten-second clip on an idle, warm system: what the service adds to decoding and inference."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.client import Answer, Client
from bench.harness import REST, Figure, Pair, Row, alternate, at, quantile
from bench.rig import Bare, Rig, Service
from bench.speech import Recording

P50, P95 = 120.0, 300.0
"""Milliseconds."""
STEPS = ("admission", "to prepare", "decode, cut, to engine", "engine, assembly", "answer")


class Overhead:
    """Pairs of clips, ours and bare, and where ours spends its time."""

    def __init__(self, client: Client, bare: Bare, clips: Sequence[Recording]) -> None:
        self._client = client
        self._bare = bare
        self._clips = clips
        self._runs = itertools.count()
        self.answers: list[Answer] = []
        self.bare: list[dict[str, float]] = []

    async def ours(self) -> float:
        """Upload to answer."""
        self.answers.append(await self._client.transcribe(self._next()))
        return self.answers[-1].seconds

    async def theirs(self) -> float:
        """The same clip, without a service."""
        began = time.perf_counter()
        self.bare.append(await self._bare.transcribe(self._next()))
        return time.perf_counter() - began

    def _next(self) -> Path:
        """The two runs of a pair are of one clip, every pair is of the next one."""
        return self._clips[next(self._runs) // 2 % len(self._clips)].path

    async def profile(self) -> list[dict[str, float]]:
        """Seconds of each step of each clip of ours, from the job's own timings."""
        return [_steps(one, (await self._client.look(one.job))["timings"]) for one in self.answers]


def _steps(answer: Answer, timings: dict[str, float]) -> dict[str, float]:
    points = [answer.sent, *(timings[name] for name in ("accepted", "preparing", "started", "finished"))]
    return dict(zip(STEPS, (b - a for a, b in itertools.pairwise([*points, answer.received])), strict=True))


async def measure(rig: Rig) -> Row:
    """Twice: with the machine to itself, and beside uploads of 1 GiB, one after the other."""
    row = Row("a 10-second clip, upload to answer, less a bare script's decode, voice activity and inference of it")
    clips = rig.speech.clips(4, 9.3, 10.5)
    async with rig.service() as service, rig.bare("ours") as bare:
        client = await service.client()
        alone = Overhead(client, bare, clips)
        idle = await alternate(rig.sizes.clips, alone.ours, alone.theirs)
        row.figures += _figures("idle", idle)
        beside = Overhead(client, bare, clips)
        async with uploads(rig, service):
            busy = await alternate(rig.sizes.clips // 2, beside.ours, beside.theirs, between=_pause)
        row.figures += _figures("beside uploads", busy)
        profiles = {"idle": await alone.profile(), "beside uploads": await beside.profile()}
    row.samples = {"idle": idle, "beside uploads": busy, "profile": profiles, "bare": alone.bare}
    row.notes.append(f"bare, idle: {median(pair.bare for pair in idle):.2f} s, of that {_split(alone.bare)}")
    # An upload makes way for our clips, and not for the bare script's: so this one as well.
    alike = [1000 * (pair.ours - median(one.bare for one in idle)) for pair in busy]
    row.notes.append(
        f"beside uploads, less bare's median on the idle machine: p50 {quantile(alike, 0.5):.0f} ms, "
        f"p95 {quantile(alike, 0.95):.0f} ms; bare beside them {median(pair.bare for pair in busy):.2f} s"
    )
    row.notes += [f"median steps of ours, {name}: {_medians(steps)}" for name, steps in profiles.items()]
    return row


async def _pause() -> None:
    """Without waiting for the disk, which the uploads keep busy."""
    await asyncio.sleep(REST)


def _figures(name: str, pairs: Sequence[Pair]) -> list[Figure]:
    added = [1000 * (pair.ours - pair.bare) for pair in pairs]
    return [at(0.5, f"added, {name}, p50", added, "ms", P50), at(0.95, f"added, {name}, p95", added, "ms", P95)]


def _medians(steps: Sequence[dict[str, float]]) -> str:
    return ", ".join(f"{name} {1000 * median(one[name] for one in steps):.0f} ms" for name in STEPS)


def _split(answers: Sequence[dict[str, float]]) -> str:
    decode, infer = (1000 * median(one[name] for one in answers) for name in ("decode", "infer"))
    return f"decode and voice activity {decode:.0f} ms, inference {infer:.0f} ms"


@asynccontextmanager
async def uploads(rig: Rig, service: Service) -> AsyncIterator[None]:
    """Uploads of the big file at full speed, one after the other; the last one is finished."""
    path = rig.big_file()
    over = asyncio.Event()
    begun = asyncio.Event()

    async def upload() -> None:
        while not over.is_set():
            client = await service.client()
            begun.set()
            job, _ = await client.upload(path)
            await client.ended(job)
            await client.erase(job)

    task = asyncio.create_task(upload(), name="uploads")
    try:
        await begun.wait()
        yield
    finally:
        over.set()
        await task
