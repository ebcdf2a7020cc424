"""Sweeping: what never became a job leaves the store, and a job that lost its record gets it back."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import ValidationError

from services.contracts import objects
from services.contracts.events import Record
from services.contracts.ids import job_time
from services.contracts.jobs import Door
from services.ingest import history
from services.ingest.quota import Quota
from services.ingest.shares import tidy
from services.runtime.blobs import Blobs
from services.runtime.logs import get_logger
from services.runtime.records import RETENTION, Records

DAY = 86_400.0


class Sweep:
    """Walks through the store. Harmless twice, and beside live admissions, because only what is old is touched.

    `after`: age in seconds at which a recording without `job.json` is nobody's any more; `uploads_after`: age at which
    an unfinished upload is, which must be longer than the longest upload; `presigned_after`: age at which what a client
    put into the store itself goes, whether it became a job or not.
    """

    def __init__(
        self,
        quota: Quota,
        blobs: Blobs,
        records: Records,
        *,
        after: float,
        uploads_after: float,
        presigned_after: float = 12 * 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quota = quota
        self._blobs = blobs
        self._records = records
        self._after = after
        self._uploads_after = uploads_after
        self._presigned_after = presigned_after
        self._clock = clock
        self._log = get_logger()

    async def round(self, *, everything: bool) -> list[Record]:
        """One walk; returns the records that were missing and are rebuilt. Raises `Unavailable`.

        Without `everything` it skips jobs that are older than any record: nothing changes there.
        """
        since = 0.0 if everything else self._clock() - RETENTION - DAY
        known = set(await self._records.every())
        rebuilt: list[Record] = []
        async for tenant in history.tenants(self._blobs):
            async for job in history.jobs(self._blobs, tenant, since):
                record = None if (tenant, job) in known else await self._unknown(tenant, job)
                if record is not None:
                    rebuilt.append(record)
        await self._remove_presigned()
        await tidy(self._blobs, self._clock())
        aborted = await self._blobs.stale_uploads(datetime.fromtimestamp(self._clock() - self._uploads_after, UTC))
        if aborted:
            self._log.info("unfinished uploads were aborted", count=aborted)
        if rebuilt:
            self._log.warning("records were missing and are rebuilt", count=len(rebuilt))
        return rebuilt

    async def _remove_presigned(self) -> None:
        """What comes late, from a PUT that took very long, is still in its folder and goes next time."""
        now = self._clock()
        async for tenant, upload in history.uploads(self._blobs):
            if job_time(upload) < now - self._presigned_after:
                await self._blobs.stale_uploads(datetime.fromtimestamp(now, UTC), objects.upload_data(tenant, upload))
                await self._blobs.delete_prefix(objects.upload_prefix(tenant, upload))
                await self._quota.release_if_can(tenant, upload)

    async def _unknown(self, tenant: str, job: str) -> Record | None:
        """A folder without a record: a job that lost it, a tombstone, or an admission under way or come to nothing."""
        try:
            record = await self._records.rebuild(tenant, job)
        except ValidationError:
            # One damaged job must not keep all others from being looked after; the operator has to see it.
            self._log.error("the objects of a job cannot be read", tenant=tenant, job=job)
            return None
        if record is not None:
            return record
        found = [stat async for stat in self._blobs.list(objects.prefix(tenant, job))]
        tombstone = next((stat for stat in found if stat.key == objects.outcome(tenant, job)), None)
        now = self._clock()
        if tombstone is not None:
            gone = [stat.key for stat in found if stat is not tombstone]
            if now - tombstone.modified.timestamp() > RETENTION and not await self._lies_in_the_bucket(tenant, job):
                gone.append(tombstone.key)
            await self._blobs.delete(gone)
        elif all(now - stat.modified.timestamp() > self._after for stat in found):
            await self._blobs.delete(stat.key for stat in found)
            await self._quota.release_if_can(tenant, job)
        return None

    async def _lies_in_the_bucket(self, tenant: str, job: str) -> bool:
        """Whether an erased recording may still lie where it was dropped: nobody must make a job of it again."""
        try:
            outcome = await self._records.outcome(tenant, job)
        except ValidationError:
            self._log.error("the objects of a job cannot be read", tenant=tenant, job=job)
            return True
        return outcome is not None and outcome.door is Door.DROP
