"""What the engines say of themselves in the `engines` bucket: their models and their measured rate."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic

from services.contracts import subjects
from services.contracts.events import EngineCard, ModelCard
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import Tasks

FRESH = 2.0
"""Seconds for which the cards are taken as they were read: engines speak every few seconds."""
RECENT = 10.0
"""Seconds for which what was read still tells which models there are: while it is read again nobody waits for it."""


class Engines:
    """The engines' cards, read at most every two seconds, however many callers ask."""

    def __init__(self, bus: Bus, tasks: Tasks, clock: Callable[[], float] = monotonic) -> None:
        """`tasks` owns the reading for which nobody waits."""
        self._kv = bus.kv(subjects.ENGINES)
        self._tasks = tasks
        self._clock = clock
        self._reading: asyncio.Task[None] | None = None
        self._cards: tuple[EngineCard, ...] = ()
        self._models: dict[str, ModelCard] = {}
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def cards(self) -> tuple[EngineCard, ...]:
        """The engines there are now. Raises `Unavailable`."""
        async with self._lock:
            if self._until < self._clock():
                keys = [key async for key in self._kv.keys(None)]
                entries = await asyncio.gather(*(self._kv.get(key) for key in keys))
                self._cards = tuple(EngineCard.model_validate_json(entry.value) for entry in entries if entry)
                if models := _union(self._cards):
                    self._models = models
                self._until = self._clock() + FRESH
            return self._cards

    async def models(self) -> Mapping[str, ModelCard]:
        """Every model that some engine names, best case first; what was last heard while no engine is there."""
        old = self._clock() - self._until
        if not self._models or old > RECENT - FRESH:
            await self.cards()
        elif old > 0 and (self._reading is None or self._reading.done()):
            self._reading = self._tasks.start(self._read(), name="read engines")
        return self._models

    async def _read(self) -> None:
        with suppress(Unavailable):
            await self.cards()


def _union(cards: tuple[EngineCard, ...]) -> dict[str, ModelCard]:
    models: dict[str, ModelCard] = {}
    for card in cards:
        for model in card.models:
            known = models.get(model.name)
            if known is None or (model.available, model.loaded) > (known.available, known.loaded):
                models[model.name] = model
    return models
