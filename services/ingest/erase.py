"""Erasure: what a user had removed stays removed, whatever crashes on the way and whatever comes late."""

from services.contracts import objects
from services.contracts.jobs import State
from services.runtime.blobs import Blobs
from services.runtime.records import Records


class Eraser:
    """Removes the data of jobs that have ended. May be repeated, which also removes what an engine wrote late."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records

    async def erase(self, tenant: str, job: str) -> None:
        """Remove everything of a job that has ended but the bare fact that it was; raises `Unavailable`.

        The record says so first: it is by the record that the reconciler finds an erasure which a crash interrupted.
        Then the outcome becomes `erased`, the one object that is ever overwritten, and then everything else goes.
        """
        outcome = await self._records.outcome(tenant, job)
        if outcome is not None:
            manifest = await self._records.manifest(tenant, job)
            nothing = {"state": State.ERASED, "sha256": None, "failure": None, "language": None}
            erased = outcome.model_copy(update=nothing | ({"door": manifest.door} if manifest else {}))
            await self._records.settle(erased, tenant)
            if outcome != erased:
                await self._blobs.put(objects.outcome(tenant, job), erased.encode())
                await self._blobs.durable()
        # First, so that nothing rebuilds the job from what is left when this stops half-way.
        await self._blobs.delete([objects.manifest(tenant, job)])
        keep = frozenset((objects.outcome(tenant, job),))
        await self._blobs.delete_prefix(objects.prefix(tenant, job), keep)
