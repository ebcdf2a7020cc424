"""The engine of this machine, put together from the settings."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.transcriber.engine.child import Plan
from services.transcriber.engine.process import EngineProcess
from services.transcriber.engine.weights import Hub, Packages, Source, Weights
from services.transcriber.settings import TranscriberSettings

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
    """Batches in flight: a worker of one thread per core on a CPU (its decoder gains nothing from a second), one GPU."""
    return max(1, len(os.sched_getaffinity(0))) if device == "cpu" else 1


def half_of_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@asynccontextmanager
async def open_engine(settings: TranscriberSettings, stored: Source | None = None) -> AsyncIterator[EngineProcess]:
    """The engine process, not yet started; ended when left. `stored` finds weights in the object store."""
    device = device_of(settings.device)
    slots = slots_of(device)
    plan = Plan(
        engine=settings.engine,
        device=device,
        compute_type=settings.compute_type,
        workers=slots + EXPRESS,
        memory=settings.models_memory or half_of_memory(),
        models_idle_after=settings.models_idle_after,
        pinned=tuple(name for name in settings.models_pinned.split(",") if name),
        niceness=NICENESS,
        digest_speed=settings.digest_speed,
        parent=os.getpid(),
    )
    sources: list[Source] = [stored] if stored else []
    sources += [Packages(), *([Hub()] if settings.models_hub else [])]
    weights = Weights(settings.models_dir or settings.home / "models", sources)
    await weights.refresh()
    engine = EngineProcess(plan, weights, slots=slots, idle_after=settings.idle_after)
    try:
        yield engine
    finally:
        await engine.close()
