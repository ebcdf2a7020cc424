"""The engine of this machine, put together from the settings."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.runtime.blobs import Blobs
from services.transcriber.engine.hearer import Plan
from services.transcriber.engine.process import EngineProcess
from services.transcriber.engine.sources import Hub, Packages, StoredModels
from services.transcriber.engine.weights import Source, Weights
from services.transcriber.settings import TranscriberSettings

LOOK_EVERY = 60.0
EXPRESS = 1
"""Workers kept free for urgent batches."""
NICENESS = 5
"""The engine gives way to the event loops of the service, which answer people."""


def device_of(wanted: str) -> str:
    """`auto` is CUDA where there is a GPU to use, else the CPU."""
    if wanted != "auto":
        return wanted
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"


def slots_of(device: str) -> int:
    """Batches in flight. On a CPU a worker of one thread per core: Whisper's decoder gains nothing from a second."""
    return max(1, len(os.sched_getaffinity(0))) if device == "cpu" else 1


def half_of_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@asynccontextmanager
async def open_engine(settings: TranscriberSettings, blobs: Blobs | None = None) -> AsyncIterator[EngineProcess]:
    """The engine process, not yet started; ended when left. With `blobs` weights are looked for in the store too."""
    device = device_of(settings.device)
    slots = slots_of(device)
    plan = Plan(
        engine=settings.engine,
        device=device,
        compute_type=settings.compute_type,
        workers=slots + EXPRESS,
        memory=settings.models_memory or half_of_memory(),
        models_idle_after=settings.models_idle_after,
        pinned=tuple(name.strip() for name in settings.models_pinned.split(",") if name.strip()),
        niceness=NICENESS,
        digest_speed=settings.digest_speed,
        parent=os.getpid(),
    )
    sources: list[Source] = [StoredModels(blobs)] if blobs else []
    sources += [Packages(), *([Hub()] if settings.models_hub else [])]
    weights = Weights(settings.models_dir or settings.home / "models", sources)
    await weights.refresh()
    engine = EngineProcess(plan, weights, slots=slots, idle_after=settings.idle_after)
    looking = asyncio.create_task(_look(weights), name="look for weights")
    try:
        yield engine
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await engine.close()


async def _look(weights: Weights) -> None:
    """Keep an eye on what weights there are, so that `available` can answer at once."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        await weights.refresh()
