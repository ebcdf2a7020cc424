"""What became of each callback: the log on the bus, its end in the store, and the receivers that want no more."""

import hashlib
from collections.abc import Callable

from services.contracts import objects, subjects
from services.contracts.callbacks import Delivery
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.kv import Conflict

KEPT = 30 * 86_400.0
"""Seconds that a log, or the word of a receiver that it wants no more, is kept on the bus."""


class Deliveries:
    """One log per job. Raises `Unavailable`.

    The end is an object too: a bus that lost everything learns of old jobs anew, and must not tell of them again.
    """

    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._kv = bus.kv(subjects.DELIVERIES)
        self._blobs = blobs

    async def get(self, tenant: str, job: str) -> Delivery | None:
        """The log of a job's callback, None before its first line."""
        entry = await self._kv.get(subjects.record(tenant, job))
        data = entry.value if entry else await self._blobs.get(objects.callback(tenant, job))
        return Delivery.model_validate_json(data) if data else None

    async def note(self, tenant: str, job: str, change: Callable[[Delivery], Delivery]) -> Delivery:
        """Write the log on. Two who write at once both do."""
        key = subjects.record(tenant, job)
        while True:
            entry = await self._kv.get(key)
            if entry is None:
                known = await self.get(tenant, job)
            else:
                known = Delivery.model_validate_json(entry.value)
            changed = change(known or Delivery(job=job))
            try:
                if entry is None:
                    await self._kv.create(key, changed.encode(), KEPT)
                else:
                    await self._kv.update(key, changed.encode(), entry.revision, KEPT)
            except Conflict:
                continue
            return changed

    async def close(self, tenant: str, delivery: Delivery) -> None:
        """Nothing more is sent by itself."""
        await self._blobs.put_once(objects.callback(tenant, delivery.job), delivery.encode())

    async def forget(self, tenant: str, job: str) -> None:
        """Remove the log of a job whose data were erased, if there is one."""
        key = subjects.record(tenant, job)
        if await self._kv.get(key) is not None:
            await self._kv.delete(key)

    async def disable(self, tenant: str, url: str) -> None:
        """The receiver at this URL said that it wants no more."""
        await self._kv.put(_mark(tenant, url), b"1", KEPT)

    async def enable(self, tenant: str, url: str) -> None:
        """It does again."""
        if await self.disabled(tenant, url):
            await self._kv.delete(_mark(tenant, url))

    async def disabled(self, tenant: str, url: str) -> bool:
        """Whether this tenant's receiver at this URL wants no more."""
        return await self._kv.get(_mark(tenant, url)) is not None


def _mark(tenant: str, url: str) -> str:
    # A digest, because a URL may hold what is nobody's business, and signs that no key may hold.
    return f"{tenant}.gone.{hashlib.sha256(url.encode()).hexdigest()[:32]}"
