"""What this transcriber says of itself: which models it has, how fast it is. Others find it in the `engines` bucket."""

import asyncio
from collections.abc import Callable

from services.contracts import subjects
from services.contracts.events import EngineCard, ModelCard
from services.contracts.live import LiveCard
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.transcriber.engine.protocol import Engine
from services.transcriber.rate import Rate

EVERY = 3.0
"""Seconds between two announcements; a card is gone 15 s after the last."""


class Announcer:
    """Keeps this transcriber's card fresh."""

    def __init__(
        self,
        bus: Bus,
        engine: Engine,
        rate: Rate,
        live: Callable[[], LiveCard],
        *,
        name: str,
        device: str,
        kind: str,
        sandbox: str,
    ) -> None:
        self._kv = bus.kv(subjects.ENGINES)
        self._engine = engine
        self._rate = rate
        self._live = live
        self._id = name
        self._device = device
        self._kind = kind
        self._sandbox = sandbox

    def card(self) -> EngineCard:
        """The card as of now."""
        models = tuple(
            ModelCard(
                name=model.name,
                available=model.available,
                loaded=model.loaded,
                multilingual=model.multilingual,
                bytes=model.bytes,
                pinned=model.pinned,
            )
            for model in self._engine.models()
        )
        return EngineCard(
            id=self._id,
            device=self._device,
            engine=self._kind,
            slots=self._engine.slots,
            rate=self._rate.measured,
            busy=self._rate.busy,
            sandbox=self._sandbox,
            models=models,
            live=self._live(),
        )

    async def announce(self) -> None:
        """Write the card once."""
        await self._kv.put(self._id, self.card().encode())

    async def run(self) -> None:
        """Write it every few seconds, until cancelled."""
        while True:
            try:
                await self.announce()
            except Unavailable:
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(EVERY)

    async def withdraw(self) -> None:
        """Take the card away: this transcriber goes."""
        await self._kv.delete(self._id)
