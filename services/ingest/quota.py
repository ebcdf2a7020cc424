"""Places in a tenant's quota, as the keys service keeps them: taken before anything is a job, given back if it is none.

A job that goes on after its place was given back is counted again by its first event, so giving back is always safe.
"""

from services.contracts import subjects
from services.contracts.auth import Admit, Claims, Granted
from services.contracts.errors import Code, Problem
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger


class Quota:
    """Takes places and gives them back. A place is known by its job's (or upload's) id; taking it twice is harmless."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._log = get_logger()

    async def take(self, who: Claims, job: str, size: int) -> None:
        """Have keys count this job with so many bytes. Raises the `Problem` that stands against it, `Unavailable`."""
        ask = Admit(tenant=who.tenant, key_id=who.key_id, job=job, bytes=size)
        granted = await self._bus.request(subjects.KEYS_ADMIT, ask, Granted)
        if not granted.ok:
            raise Problem(Code(granted.code or Code.QUOTA), granted.detail, retry_after=granted.retry_after)

    async def release(self, tenant: str, job: str) -> None:
        """Give a place back. Raises `Unavailable`, and `Problem` for a tenant that keys does not know."""
        ask = Admit(tenant=tenant, key_id="", job=job, bytes=0, release=True)
        await self._bus.request(subjects.KEYS_ADMIT, ask, Granted)

    async def release_if_can(self, tenant: str, job: str) -> None:
        """Give a place back; where that cannot be done it is told in the log, and keys forgets it in time."""
        try:
            await self.release(tenant, job)
        except (Unavailable, Problem) as error:
            self._log.warning("a quota was not given back", tenant=tenant, job=job, error=type(error).__name__)
