"""Words of live sessions leave the bus: at once when their job is erased, else some hours after the session's end.

Nobody may purge. A subject is rolled up into its last message, which says how the session ended and holds no words.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.contracts import subjects
from services.contracts.jobs import State
from services.contracts.live import Ended, Session
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable, read_last
from services.runtime.kv import Conflict
from services.runtime.logs import get_logger
from services.runtime.records import Records

EVERY = 60.0
"""Seconds between two looks at all, however often the bell rings: for bells that nobody heard, and what grows old."""
PAUSE = 0.2
"""Seconds between two looks at least: every job that is cancelled or erased rings the bell."""
AGAIN = 2.0
"""Seconds after which all are looked at when something was away."""
KEPT = 6 * 3600.0
"""Seconds after its end for which a session can be resumed to read its last words again."""


class Forgetter:
    """Looks at sessions that have ended; one that is still heard is ended first, by whoever hears it."""

    def __init__(
        self,
        bus: Bus,
        records: Records,
        *,
        kept: float = KEPT,
        every: float = EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._records = records
        self._kept = kept
        self._every = every
        self._clock = clock
        self._forgotten: set[str] = set()
        self._rung: set[str] = set()
        self._bell = asyncio.Event()
        self._log = get_logger()

    async def run(self) -> None:
        """Until cancelled. Ends of sessions and of jobs, erasures among them, ring the bell."""

        async def ring(message: Msg) -> None:
            self._rung.update(message.subject.split("."))  # its session is among them
            self._bell.set()

        ends = (subjects.cancel("*", "*"), f"{subjects.RELAY}.{subjects.ALL_LIVE_DONE}")
        bells = [await self._bus.nc.subscribe(subject, cb=ring) for subject in ends]
        loop = asyncio.get_running_loop()
        all_at = loop.time()
        try:
            while True:
                rung, self._rung = self._rung, set()
                self._bell.clear()
                whole = loop.time() >= all_at
                try:
                    await self.round(None if whole else rung)
                    if whole:
                        all_at = loop.time() + self._every
                except Unavailable:
                    all_at = loop.time() + AGAIN  # and who rang is among them
                await asyncio.sleep(PAUSE)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(all_at):
                        await self._bell.wait()
        finally:
            with suppress(*AWAY):
                for bell in bells:
                    await bell.unsubscribe()

    async def round(self, among: set[str] | None = None) -> None:
        """Look at every session that has ended, or at those `among` these. Raises `Unavailable`."""
        ended = {subject.split(".")[1] for subject in await self._bus.counts(subjects.LIVE, subjects.ALL_LIVE_DONE)}
        self._forgotten &= ended
        for session in sorted((ended if among is None else ended & among) - self._forgotten):
            try:
                await self._look(session)
            except ValidationError:
                self._log.error("a session cannot be read", job=session)

    async def _look(self, session: str) -> None:
        subject = subjects.live_out(session)
        last = await read_last(self._bus.nc, subjects.LIVE, subject)
        headers = (last.headers or {}) if last else {}
        if last is None or "Nats-Rollup" in headers:
            self._forgotten.add(session)
            return
        if not await self._is_old(session) and not await self._is_erased(session):
            return
        left = last.data
        if b'"ended"' not in left:  # it ended before it could say so
            left = Ended(position=0.0, state=State.ERASED, duration=0.0, finals=0).encode()
        with suppress(Conflict):  # another engine was faster
            await self._bus.append(subject, left, int(headers["Nats-Sequence"]), {"Nats-Rollup": "sub"})
        self._forgotten.add(session)

    async def _is_old(self, session: str) -> bool:
        done = await read_last(self._bus.nc, subjects.LIVE, subjects.live_done(session))
        said = (done.headers or {}).get("Nats-Time-Stamp") if done else None
        return said is not None and self._clock() - datetime.fromisoformat(said).timestamp() > self._kept

    async def _is_erased(self, session: str) -> bool:
        found = await read_last(self._bus.nc, subjects.LIVE, subjects.live_open(session))
        if found is None:
            return False
        tenant = Session.model_validate_json(found.data).tenant
        end = await self._records.get(tenant, session) or await self._records.outcome(tenant, session)
        return end is not None and end.state is State.ERASED
