"""Has the object store know which tenants' own clients may use the bucket `drop`, while it runs."""

import asyncio
import os
import signal
import time

from infra.nats import permissions
from infra.s3 import drop
from infra.stack import probes, secrets, specs
from infra.stack.errors import StackError
from services.contracts.objects import DROP_BUCKET

TIMEOUT = 10.0
POLL = 0.05


def apply(wiring: specs.Wiring, pid: int | None, tenant: str, old: str = "") -> None:
    """Return when what the secrets say of this tenant holds; `pid` is the store's, None where it does not run.

    `old` is the secret of a tenant that has none any more.

    SeaweedFS reads its file at its next start too; MinIO remembers for itself, so it must run. Raises StackError.
    """
    if wiring.store_kind == specs.MINIO:
        if pid is None:
            raise StackError("MinIO is told while it runs: start the stack, then repeat this.")
        _tell_minio(wiring, tenant)
        return
    bound = wiring.bound.get(tenant)
    wiring.write_store_users(None if bound else {tenant: secrets.random()})
    if pid is None:
        return
    os.kill(pid, signal.SIGHUP)
    if not asyncio.run(_holds(wiring.ports["s3"], tenant, bound or old, (404,) if bound else (403,))):
        raise StackError("SeaweedFS did not read its users again; see `desifre logs s3`.")


async def _holds(port: int, tenant: str, secret: str, wanted: tuple[int, ...]) -> bool:
    """Whether the store, within TIMEOUT, answers so for an object that this secret alone may open."""
    until = time.monotonic() + TIMEOUT
    path = f"/{DROP_BUCKET}/{tenant}/out/-"
    while await probes.head(port, path, drop.access_key(tenant), secret) not in wanted:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL)
    return True


def _tell_minio(wiring: specs.Wiring, tenant: str) -> None:
    from infra.s3 import minio

    admin = wiring.store_keys(permissions.ADMIN)
    if (secret := wiring.bound.get(tenant)) is not None:
        minio.bind(wiring.store_endpoint, admin, tenant, secret)
    else:
        minio.unbind(wiring.store_endpoint, admin, tenant)
