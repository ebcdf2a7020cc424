"""Verification: the question that ingest asks for every request whose answer it does not remember."""

import asyncio
import time
from collections.abc import Callable

from prometheus_client import Counter
from sqlalchemy import bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from services.contracts.auth import Claims, Quota, Verify
from services.contracts.errors import Code, Problem
from services.keys.store import Store
from services.keys.tables import Key, Tenant, split_scopes
from services.keys.tokens import Peppers
from services.runtime.logs import get_logger

FLUSH_EVERY = 15.0
"""Seconds between two writes of what verification learnt."""


class Verifier:
    """Looks a key up by its digest, and writes down later when it was used.

    The look-up takes an HMAC under our pepper, which nobody outside can predict: known, unknown and mistaken keys
    take the same path at the same cost, and its timing tells nothing about what is stored.
    """

    def __init__(
        self, store: Store, peppers: Peppers, starter: Quota, verdicts: Counter, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._streams = starter.streams
        self._verdicts = verdicts
        self._clock = clock
        self._used: dict[str, float] = {}
        self._moved: dict[str, str] = {}
        # Built once: building it for every call would cost more than running it.
        self._query = (
            select(
                *(Key.id, Key.tenant, Key.scopes, Key.expires, Key.revoked, Key.deprecated, Key.pepper),
                *(Tenant.username, Tenant.quota_streams, Key.callback_url),
            )
            .join(Tenant, Tenant.id == Key.tenant)
            .where(Key.digest.in_(bindparam("digests", expanding=True)))
        )

    async def verify(self, ask: Verify) -> Claims:
        """Who this key is and what it may do. Raises `Problem(WRONG_KEY)` for every key that is good for nothing."""
        digests = self._peppers.digests(ask.fingerprint)
        async with self._store.read() as connection:
            row = (await connection.execute(self._query, {"digests": digests})).first()
        now = self._clock()
        if row is None:
            raise self._refusal("unknown")
        if row.revoked is not None:
            raise self._refusal("revoked", "The key was revoked.")
        if row.expires is not None and row.expires <= now:
            raise self._refusal("expired", "The key has expired.")
        self._verdicts.labels("valid").inc()
        self.used(row.id)
        if row.pepper != self._peppers.current.version:
            self._moved[row.id] = digests[0]
        return Claims(
            tenant=row.tenant,
            key_id=row.id,
            username=row.username,
            scopes=split_scopes(row.scopes),
            streams=self._streams if row.quota_streams is None else row.quota_streams,
            expires=row.expires,
            deprecated=row.deprecated is not None,
            callback_url=row.callback_url,
        )

    def used(self, key_id: str) -> None:
        """Note that a key was of use just now."""
        self._used[key_id] = self._clock() // 60 * 60

    def _refusal(self, verdict: str, detail: str | None = None) -> Problem:
        self._verdicts.labels(verdict).inc()
        return Problem(Code.WRONG_KEY, detail)

    async def flush(self) -> None:
        """Write the minutes of last use, and move keys that came under the previous pepper to the current one."""
        used, self._used = self._used, {}
        moved, self._moved = self._moved, {}
        if not used:
            return
        try:
            async with self._store.write() as session:
                for key_id, minute in used.items():
                    older = or_(Key.last_used.is_(None), Key.last_used < minute)
                    await session.execute(update(Key).where(Key.id == key_id, older).values(last_used=minute))
                for key_id, digest in moved.items():
                    fresh = {"digest": digest, "pepper": self._peppers.current.version}
                    await session.execute(update(Key).where(Key.id == key_id).values(**fresh))
        except SQLAlchemyError as error:
            # Worth a line, not a restart: what was learnt is kept for the next time.
            get_logger().warning("use of keys not written", error=type(error).__name__)
            self._used = used | self._used
            self._moved = moved | self._moved

    async def run(self) -> None:
        """Flush from time to time, for ever."""
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            await self.flush()
