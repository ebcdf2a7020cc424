"""The jobs that lie in the store, told from its folders: for who has no record of them (any more)."""

from collections.abc import AsyncIterator

from services.contracts import objects
from services.contracts.ids import is_job_id, is_tenant, is_upload_id, job_id_from, job_time
from services.runtime.blobs import Blobs

WINDOW_BITS = 30
"""A window is 2**30 ms, 12.4 days: job ids that agree in all but the last 30 bits of their time share a prefix."""
WINDOW_PREFIX = len("job_") + 4


async def tenants(blobs: Blobs) -> AsyncIterator[str]:
    """Every tenant that has something in the store."""
    async for name in _folders(blobs, objects.JOBS):
        if is_tenant(name):
            yield name


async def uploads(blobs: Blobs) -> AsyncIterator[tuple[str, str]]:
    """Every upload in the store, `(tenant, id)`: those that were put there by presigned URLs, used or not."""
    async for tenant in _folders(blobs, objects.UPLOADS):
        async for name in _folders(blobs, f"{objects.UPLOADS}{tenant}/"):
            if is_tenant(tenant) and is_upload_id(name):
                yield tenant, name


async def jobs(blobs: Blobs, tenant: str, since: float = 0.0) -> AsyncIterator[str]:
    """A tenant's jobs in the store that were admitted after `since` (Unix seconds), oldest first."""
    first = job_id_from(round(since * 1000), 0)
    async for name in _folders(blobs, objects.tenant_prefix(tenant), first):
        if is_job_id(name):
            yield name


async def newest_first(blobs: Blobs, tenant: str, before: str) -> AsyncIterator[str]:
    """A tenant's jobs in the store that are older than the job id `before`.

    S3 lists upwards only. So this goes back window by window and lists each, which touches no more of a long history
    than is asked for.
    """
    oldest = await anext(aiter(jobs(blobs, tenant)), None)
    if oldest is None:
        return
    for window in range(_window(before), _window(oldest) - 1, -1):
        shared = job_id_from(window << WINDOW_BITS, 0)[:WINDOW_PREFIX]
        found = [shared + rest async for rest in _folders(blobs, objects.tenant_prefix(tenant) + shared)]
        for name in sorted(found, reverse=True):
            if name < before and is_job_id(name):
                yield name


def _window(job: str) -> int:
    return round(job_time(job) * 1000) >> WINDOW_BITS


async def _folders(blobs: Blobs, prefix: str, after: str | None = None) -> AsyncIterator[str]:
    """The folders whose names begin with `prefix`, without it."""
    async for found in blobs.list(prefix, after=prefix + after if after else None, recursive=False):
        if found.key.endswith("/"):
            yield found.key.removeprefix(prefix).rstrip("/")
