"""Shares: a link by which one transcript can be read, and perhaps heard, by whoever has it, until it ends.

The share is an object with its job, `jobs/<tenant>/<job>/shares/<id>.json`, and is good while that is there: it goes
with the job, and revoking it is removing it. Beside all jobs, `shares/<hash of the token>.json` says where it is; of
the token itself only the hash is kept, and any ingest can look it up.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from services.contracts import objects
from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_share_id, new_share_id
from services.contracts.versions import Share, Shared
from services.ingest.jobs import Jobs
from services.runtime.blobs import Blobs
from services.runtime.logs import get_logger

SHORTEST = 60.0
"""Seconds."""
USUAL = 7 * 86_400.0
"""Seconds for which a share is good that says nothing else."""
MOST = 100
"""Shares of one job."""
PREFIX = "dsf_share_"
_TOKEN = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a share shall be; `expires_in` in seconds, `version` None: always the latest."""

    expires_in: float = USUAL
    with_audio: bool = False
    title: str | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A share that is good, and whose job it shows."""

    tenant: str
    job: str
    share: Share


class Shares:
    """`longest`: seconds for which a share may be good. Every method raises `Unavailable`."""

    def __init__(self, blobs: Blobs, jobs: Jobs, *, longest: float, clock: Callable[[], float] = time.time) -> None:
        self._blobs = blobs
        self._jobs = jobs
        self._longest = longest
        self._clock = clock

    async def make(self, who: Claims, job: str, wish: Wish) -> tuple[Share, str]:
        """A share and its token, which is told this once.

        Raises `Problem` as `Jobs.completed` does, SHARE, TOO_MANY_SHARES.
        """
        await self._jobs.completed(who.tenant, job)
        if not SHORTEST <= wish.expires_in <= self._longest:
            raise Problem(Code.SHARE, f"`expires_in` must be from {SHORTEST:.0f} to {self._longest:.0f} seconds.")
        if len(await self.listed(who.tenant, job)) >= MOST:
            raise Problem(Code.TOO_MANY_SHARES, f"At most {MOST} at a time.")
        now, token = round(self._clock(), 3), PREFIX + secrets.token_urlsafe(32)
        share = Share(
            share=new_share_id(),
            digest=_digest(token),
            created=now,
            expires=now + wish.expires_in,
            by=who.key_id,
            with_audio=wish.with_audio,
            title=wish.title,
            version=wish.version,
        )
        where = Shared(tenant=who.tenant, job=job, share=share.share, expires=share.expires)
        await self._blobs.put_once(objects.share(who.tenant, job, share.share), share.encode())
        await self._blobs.put_once(objects.shared(share.digest), where.encode())
        await self._blobs.durable()
        return share, token

    async def listed(self, tenant: str, job: str) -> list[Share]:
        """Those that are good, oldest first. Raises `Problem` as `Jobs.completed` does."""
        await self._jobs.completed(tenant, job)
        found = []
        async for stat in self._blobs.list(objects.shares(tenant, job)):
            data = await self._blobs.get(stat.key)
            share = Share.model_validate_json(data) if data is not None else None
            if share is not None and share.expires > self._clock():
                found.append(share)
        return sorted(found, key=lambda share: (share.created, share.share))

    async def revoke(self, tenant: str, job: str, share_id: str) -> None:
        """End a share now. Raises `Problem` JOB_NOT_FOUND, SHARE_NOT_FOUND."""
        await self._jobs.get(tenant, job)
        key = objects.share(tenant, job, share_id)
        data = await self._blobs.get(key) if is_share_id(share_id) else None
        if data is None:
            raise Problem(Code.SHARE_NOT_FOUND)
        # The share first: what then still leads to it leads nowhere.
        await self._blobs.delete([key])
        await self._blobs.delete([objects.shared(Share.model_validate_json(data).digest)])
        # A power cut must not bring it back.
        await self._blobs.durable()

    async def open(self, token: str) -> Opened:
        """The share of this token. Raises `Problem` SHARE_NOT_FOUND, whatever is the matter with it."""
        digest = _digest(token) if _TOKEN.fullmatch(token) else None
        data = await self._blobs.get(objects.shared(digest)) if digest else None
        if digest is None or data is None:
            raise Problem(Code.SHARE_NOT_FOUND)
        where = Shared.model_validate_json(data)
        data = await self._blobs.get(objects.share(where.tenant, where.job, where.share))
        share = Share.model_validate_json(data) if data is not None else None
        if share is None or not hmac.compare_digest(share.digest, digest) or share.expires <= self._clock():
            raise Problem(Code.SHARE_NOT_FOUND)
        return Opened(where.tenant, where.job, share)


async def tidy(blobs: Blobs, now: float) -> int:
    """Remove what is left of shares that ended, or whose jobs were erased; returns how many objects."""
    ended: list[str] = []
    async for stat in blobs.list(objects.SHARES):
        data = await blobs.get(stat.key)
        if data is None:
            continue
        try:
            where = Shared.model_validate_json(data)
        except ValidationError:
            # It opens nothing. The walk goes on to what others wait for, and the operator sees it.
            get_logger().error("a share cannot be read")
            continue
        key = objects.share(where.tenant, where.job, where.share)
        if where.expires <= now:
            ended += (key, stat.key)
        elif await blobs.stat(key) is None:
            ended.append(stat.key)
    await blobs.delete(ended)
    return len(ended)


def _digest(token: str) -> str:
    return hashlib.sha256(f"share:{token}".encode()).hexdigest()
