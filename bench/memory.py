"""The memory of a transcriber that prepares a ten-hour recording, without its engine."""

import asyncio
import time

from bench.harness import Figure, Row
from bench.processes import MIB, family, pss, watching
from bench.rig import Rig
from bench.speech import hours_long

LIMIT = 300.0
"""MiB."""
ENGINE = "services.transcriber.engine"


async def measure(rig: Rig) -> Row:
    """With the digest engine: what is held does not depend on what the words are."""
    source = rig.speech.long(rig.sizes.long)
    recording = await asyncio.to_thread(hours_long, source, rig.sizes.hours, rig.folder / "hours.mka")
    async with rig.service({"DESIFRE_ENGINE": "digest"}) as service:
        client = await service.client()
        transcriber = service.pid("transcriber")

        def pids() -> list[int]:
            return family(transcriber, without=ENGINE)

        idle = sum(pss(pid) for pid in pids()) / MIB
        async with watching(pids) as peak:
            began = time.perf_counter()
            job = await client.submit(recording.path)
            await client.completed(job)
            seconds = time.perf_counter() - began
    row = Row(f"PSS of transcriber, fork server and decoder together, for a recording of {rig.sizes.hours / 3600:g} h")
    row.figures.append(Figure("highest", peak.highest, "MiB", count=1, target=LIMIT))
    row.notes.append(f"idle {idle:.0f} MiB; the recording took {seconds:.0f} s with the digest engine")
    row.samples = {"idle": idle, "highest": peak.highest, "seconds": seconds}
    return row
