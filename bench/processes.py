"""The memory of processes: PSS, which shares out what several of them map (Linux only)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

MIB = float(1 << 20)
EVERY = 0.1
"""Seconds between two looks."""


def pss(pid: int) -> int:
    """Bytes; 0 for a process that has gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def family(pid: int, *, without: str = "") -> list[int]:
    """A process and its descendants, less those whose command line holds this text, with their own descendants."""
    try:
        process = psutil.Process(pid)
        if without and without in " ".join(process.cmdline()):
            return []
        children = process.children()
    except psutil.NoSuchProcess:
        return []
    return [pid, *(one for child in children for one in family(child.pid, without=without))]


class Peak:
    """The most memory that some processes had together while they were watched; MiB."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self.first = self.now()
        self.highest = self.first

    def now(self) -> float:
        """At this moment."""
        return sum(pss(pid) for pid in self._pids()) / MIB

    def look(self) -> None:
        """Take this moment into account."""
        self.highest = max(self.highest, self.now())


@asynccontextmanager
async def watching(pids: Callable[[], Iterable[int]]) -> AsyncIterator[Peak]:
    """Watch the memory of these processes, whichever they are at each look, until the block ends."""
    peak = await asyncio.to_thread(Peak, pids)

    async def watch() -> None:
        while True:
            await asyncio.to_thread(peak.look)
            await asyncio.sleep(EVERY)

    task = asyncio.create_task(watch(), name="watch memory")
    try:
        yield peak
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
