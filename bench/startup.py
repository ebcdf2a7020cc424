"""From `desifre up` on an installed system to a service that is ready."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from bench.harness import Row, middle, settle
from bench.rig import Rig
from infra.stack import ports

LIMIT = 5.0
READY = b"is ready after"


async def measure(rig: Rig) -> Row:
    """What `make up` runs once everything is installed: with a new home, and with one that was used before."""
    new: list[float] = []
    again: list[float] = []
    for _ in range(rig.pairs):
        async with rig.home() as home:
            for into in (new, again):
                await settle()
                into.append(await _up(rig, home))
    row = Row("`make up` after the installation, to ready")
    row.figures.append(middle("with a new home", new, "s", LIMIT))
    row.figures.append(middle("with a home that was used before", again, "s", LIMIT))
    row.samples = {"new": new, "again": again}
    return row


async def _up(rig: Rig, home: Path) -> float:
    port = ports.assign(["http"], {})["http"]
    own = {"DESIFRE_HOME": str(home), "DESIFRE_HTTP_PORT": str(port)}
    began = time.perf_counter()
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "up"),
        env=os.environ | rig.environment | own,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert launcher.stdout
    try:
        printed = b""
        while READY not in printed:
            line = await launcher.stdout.readline()
            if not line:
                raise RuntimeError(f"it did not start: {printed.decode()}")
            printed += line
        return time.perf_counter() - began
    finally:
        if launcher.returncode is None:
            launcher.send_signal(signal.SIGINT)
        await launcher.communicate()
