"""Eight clients that post 33 short clips in turn, against a bare script that does one after the other."""

import asyncio
import time
from statistics import median

from bench.harness import Row, alternate, quantile, ratio
from bench.rig import Rig

CLIENTS = 8
CLIPS = 33
SHORTEST, LONGEST = 1.0, 10.5
"""Seconds of a clip; a reader's ten seconds are never exact."""
RATIO = 1.1


async def measure(rig: Rig) -> Row:
    """The wall time from the first byte of the first clip to the last answer."""
    clips = rig.speech.clips(CLIPS, SHORTEST, LONGEST)
    waits: list[float] = []
    async with rig.service() as service, rig.bare("stock") as bare:
        clients = [await service.client() for _ in range(CLIENTS)]

        async def ours() -> float:
            began = time.perf_counter()
            waiting = iter(clips)

            async def post(n: int) -> None:
                for clip in waiting:
                    answer = await clients[n].transcribe(clip.path)
                    waits.append(answer.seconds)

            async with asyncio.TaskGroup() as group:
                for n in range(CLIENTS):
                    group.create_task(post(n), name=f"client {n}")
            return time.perf_counter() - began

        async def theirs() -> float:
            began = time.perf_counter()
            for clip in clips:
                await bare.transcribe(clip.path)
            return time.perf_counter() - began

        pairs = await alternate(rig.pairs, ours, theirs)
    total = sum(clip.seconds for clip in clips)
    row = Row(f"{CLIENTS} clients posting {CLIPS} clips ({total:.0f} s in all) in turn, against a bare script")
    row.figures.append(ratio(pairs, RATIO))
    seconds = median(pair.ours for pair in pairs), median(pair.bare for pair in pairs)
    row.notes.append(f"ours {seconds[0]:.1f} s, bare {seconds[1]:.1f} s")
    row.notes.append(f"a client waits {median(waits):.1f} s for a clip, p95 {quantile(waits, 0.95):.1f} s")
    row.samples = {"pairs": pairs, "waits": waits}
    return row
