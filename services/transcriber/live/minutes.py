"""The quota of a session, reserved a minute at a time."""

import asyncio

from services.contracts import subjects
from services.contracts.auth import Granted, Reserve
from services.contracts.errors import Code, Problem
from services.contracts.live import Session
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger
from services.transcriber.live.closing import Over

MINUTE = 60.0
"""Seconds that are reserved of the quota at a time."""
PATIENCE = 2.0
"""Seconds for which keys is waited for: somebody speaks meanwhile."""
LATER = 30.0
"""Seconds for which keys is left alone when it did not say whether the quota holds."""


class Minutes:
    """What is reserved for one session."""

    def __init__(self, bus: Bus, session: Session, *, later: float = LATER) -> None:
        self._bus = bus
        self._session = session
        self._later = later
        self._reserved = 0.0
        self._ask_at = 0.0
        self._log = get_logger()

    async def reserve(self, seconds: float) -> None:
        """Have so many seconds of the session reserved. Raises `Over` where the quota does not hold any more.

        Nothing else ends or holds up a session: what is not reserved is settled at its end.
        """
        loop = asyncio.get_running_loop()
        if seconds <= self._reserved or loop.time() < self._ask_at:
            return
        # After a takeover: all of it at once, not a minute with every step. Of the last minute, what there is.
        for wanted in (max(self._reserved, seconds - MINUTE) + MINUTE, seconds):
            ask = Reserve(tenant=self._session.tenant, job=self._session.session, seconds=wanted)
            try:
                granted = await self._bus.request(subjects.KEYS_RESERVE, ask, Granted, PATIENCE)
            except (Unavailable, Problem) as error:
                self._ask_at = loop.time() + self._later
                self._log.warning("a quota is not known", job=self._session.session, reason=str(error))
                return
            if granted.ok:
                self._reserved = wanted
                return
        raise Over(Code.QUOTA)
