"""A session that no engine hears for a while: then nobody but the door is there to say how far it falls behind."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.contracts import subjects
from services.contracts.live import Lag
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable

LOOK = 2.5
"""Seconds between two looks whether an engine holds the session. The second in vain is told, and each that follows: an
engine that starts again has it before."""


class Unheard:
    """Looks after one session; `send` may raise ConnectionError."""

    def __init__(self, bus: Bus, session: str, send: Callable[[str], Awaitable[None]]) -> None:
        self._leases = bus.kv(subjects.SESSIONS)
        self._session = session
        self._send = send
        self._position = 0.0
        self._lag = 0.0
        self._told = False
        self._seen_at = asyncio.get_running_loop().time()

    async def heard(self, message: Mapping[str, Any]) -> None:
        """Note what an engine says. Where it is on time again it says nothing of it: it was never late."""
        self._position = max(self._position, message.get("position", 0.0))
        if message["type"] == "lag":
            self._lag, self._told = message["seconds"], False
        elif self._told and message["type"] != "claimed":
            self._told = False
            await self._say(0.0)

    async def run(self) -> None:
        """Until cancelled, or the socket is gone."""
        missed = 0
        try:
            while True:
                await asyncio.sleep(LOOK)
                try:
                    held = await self._leases.get(self._session) is not None
                except Unavailable:
                    continue
                now = asyncio.get_running_loop().time()
                missed = 0 if held else missed + 1
                if held:
                    self._seen_at = now
                elif missed > 1:
                    self._told = True
                    await self._say(self._lag + now - self._seen_at)
        except ConnectionError:
            pass  # whoever reads from the socket learns of it too

    async def _say(self, seconds: float) -> None:
        await self._send(Lag(position=self._position, seconds=round(seconds, 2)).model_dump_json())
