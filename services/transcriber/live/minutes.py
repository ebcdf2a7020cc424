"""The quota of a session, reserved a minute at a time."""

from services.contracts import subjects
from services.contracts.auth import Granted, Reserve
from services.contracts.errors import Code
from services.contracts.live import Session
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.transcriber.live.closing import Over

MINUTE = 60.0
"""Seconds that are reserved of the quota at a time."""


class Minutes:
    """What is reserved for one session."""

    def __init__(self, bus: Bus, session: Session) -> None:
        self._bus = bus
        self._session = session
        self._reserved = 0.0

    async def reserve(self, seconds: float) -> None:
        """Have so many seconds of the session reserved. Raises `Over` where the quota does not hold any more."""
        if seconds <= self._reserved:
            return
        # After a takeover: all of it at once, not a minute with every step. Of the last minute, what there is.
        for wanted in (max(self._reserved, seconds - MINUTE) + MINUTE, seconds):
            ask = Reserve(tenant=self._session.tenant, job=self._session.session, seconds=wanted)
            try:
                granted = await self._bus.request(subjects.KEYS_RESERVE, ask, Granted)
            except Unavailable:
                return  # keys is away: asked again at the next step, and settled at the end
            if granted.ok:
                self._reserved = wanted
                return
        raise Over(Code.QUOTA)
