"""Streamed results: how long an event takes from its publishing to a client's socket, and what a thousand cost."""

import asyncio
import json
import os
import sys
from dataclasses import asdict, replace
from typing import Any

import nats
import psutil

from bench.harness import Figure, Row, at, quantile, settle
from bench.processes import watching
from bench.relay_load import Load
from bench.rig import Rig
from infra.stack import Stack
from services.contracts import subjects

P99 = 50.0
"""Milliseconds."""
GROWTH = 150.0
"""MiB."""
ANSWER_LIMIT = 64 << 20
FRONT = ("nats", "s3", "keys", "ingest")
MANY = {
    "keys": {"DESIFRE_QUOTA_STREAMS": "5000", "DESIFRE_QUOTA_JOBS": "5000"},
    "ingest": {"DESIFRE_RATE_LIMIT": "1000000/minute"},
}
"""Limits out of the way: all the load is one tenant's."""


async def measure(rig: Rig) -> Row:
    """A thousand sockets with a job each, and two hundred on one job; each on a service of its own."""
    row = Row("events of jobs, from just before their publishing to the client's socket")
    for name, jobs, sockets, rate in (
        ("1,000 sockets, a job each, 500 events/s in all", 1000, 1000, 500.0),
        ("200 sockets on one job, 20 events/s", 1, 200, 20.0),
    ):
        await settle()
        told, grown, busy = await _run(rig, Load("", "", "transcriber", "", jobs, sockets, rate, rig.sizes.relay))
        row.figures.append(at(0.5, f"{name}, p50", told["latency"], "ms"))
        row.figures.append(at(0.99, f"{name}, p99", told["latency"], "ms", P99))
        row.figures.append(at(0.99, f"{name}, of that until the bus has it on disk, p99", told["store"], "ms"))
        row.figures.append(Figure(f"{name}: more PSS of ingest", grown, "MiB", count=1, target=GROWTH))
        row.figures.append(
            Figure(f"{name}: lost or repeated", told["lost"] + told["repeated"], count=sockets, target=0)
        )
        lag = told["lag"]
        row.notes.append(
            f"{name}: the load's own lag p99 {quantile(lag, 0.99):.1f} ms, most {max(lag):.1f} ms; "
            f"cores that it used {told['cores']:.2f}, ingest {busy:.2f}"
        )
        row.samples[name] = told
    return row


async def _run(rig: Rig, load: Load) -> tuple[dict[str, Any], float, float]:
    """What the load measured, by how many MiB ingest grew, and how many cores it used."""
    async with rig.home() as home, Stack(home, services=FRONT, settings=MANY) as stack:
        load = replace(
            load,
            http_url=stack.http_url,
            nats_url=stack.nats_url,
            nats_password=stack.nats_password(load.nats_user),
        )
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.relay_load"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=ANSWER_LIMIT,
            env=dict(os.environ),
        )
        try:
            await _say(child, json.dumps(asdict(load)))
            await _hear(child, "made")
            pid = stack.process("ingest").pid
            assert pid is not None
            async with watching(lambda: [pid]) as memory:
                await _say(child, "")
                job = (await _hear(child, "jobs"))["job"]
                before = sum(psutil.Process(pid).cpu_times()[:2])
                await _say(child, await _tenant(stack, job))
                told = await _hear(child, "measured")
                busy = (sum(psutil.Process(pid).cpu_times()[:2]) - before) / told["seconds"]
            await child.wait()
            return told, memory.highest - memory.first, busy
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


async def _tenant(stack: Stack, job: str) -> str:
    """Whose job this is, from the records."""
    nc = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password(), inbox_prefix=b"_INBOX_admin")
    try:
        message = await nc.jetstream().get_last_msg(subjects.RESULTS, subjects.state("*", job))
        return str(json.loads(message.data or b"{}")["tenant"])
    finally:
        await nc.close()


async def _say(child: asyncio.subprocess.Process, line: str) -> None:
    assert child.stdin
    child.stdin.write(line.encode() + b"\n")
    await child.stdin.drain()


async def _hear(child: asyncio.subprocess.Process, step: str) -> dict[str, Any]:
    assert child.stdout
    line = await child.stdout.readline()
    told: dict[str, Any] = json.loads(line) if line else {}
    if told.get("step") != step:
        raise RuntimeError(f"the load did not come to `{step}`")
    return told
