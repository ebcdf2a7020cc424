"""An upload of 1 GiB: its rate against minio-py's own, and the memory it costs ingest."""

import asyncio
import time
from statistics import median

from minio import Minio

from bench.harness import Figure, Pair, Row, alternate
from bench.processes import MIB, pss, watching
from bench.rig import Rig

RATE = 0.5
GROWTH = 64.0
"""MiB."""
BUCKET, KEY = "desifre", "bench/big"


async def measure(rig: Rig) -> Row:
    """Until it is admitted, the barrier included: the bytes are on the disk then. minio-py's put waits for no disk."""
    path = await asyncio.to_thread(rig.big_file)
    size = path.stat().st_size
    growth: list[float] = []
    async with rig.service() as service:
        access, secret = service.stack.store_keys()
        store = Minio(service.stack.store_endpoint, access, secret, secure=False)
        ingest = service.pid("ingest")
        before = pss(ingest) / MIB

        async def ours() -> float:
            client = await service.client()
            async with watching(lambda: [ingest]) as peak:
                job, seconds = await client.upload(path)
            growth.append(peak.highest - before)
            await client.ended(job)
            await client.erase(job)
            return seconds

        def put() -> float:
            with path.open("rb") as source:
                began = time.perf_counter()
                store.put_object(BUCKET, KEY, source, size)
                return time.perf_counter() - began

        async def theirs() -> float:
            seconds = await asyncio.to_thread(put)
            await asyncio.to_thread(store.remove_object, BUCKET, KEY)
            return seconds

        pairs = await alternate(rig.pairs, ours, theirs)
    row = Row(f"an upload of {size / MIB:.0f} MiB, against minio-py's put_object to the same server")
    rates = [1 / pair.ratio for pair in pairs]
    name = "rate, ours ÷ minio-py, median of pairs"
    row.figures.append(Figure(name, median(rates), "", min(rates), max(rates), len(rates), RATE, more=True))
    row.figures.append(Figure("growth of ingest's memory (PSS)", max(growth), "MiB", count=len(growth), target=GROWTH))
    row.notes.append(f"ours {_rate(size, pairs, 0)}, minio-py {_rate(size, pairs, 1)}; ingest before: {before:.0f} MiB")
    row.samples = {"pairs": pairs, "growth": growth}
    return row


def _rate(size: int, pairs: list[Pair], which: int) -> str:
    return f"{size / MIB / median(pair[which] for pair in pairs):.0f} MiB/s"
