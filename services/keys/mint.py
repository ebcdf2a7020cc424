"""Where tenants and keys are made: the row, the digest and the line in the audit, in the caller's transaction."""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import NewKey, Quota, Scope, fingerprint, new_key
from services.contracts.ids import new_tenant
from services.keys.tables import Audit, Key, Tenant
from services.keys.tokens import Peppers


class Mint:
    """Checks nothing: who may have what is decided before."""

    def __init__(self, peppers: Peppers, starter: Quota, clock: Callable[[], float]) -> None:
        self._peppers = peppers
        self._starter = starter
        self._clock = clock

    async def tenant(self, session: AsyncSession, username: str, origin: str | None = None) -> Tenant:
        """A new tenant."""
        tenant = Tenant(id=new_tenant(), username=username, created=self._clock(), origin=origin, unfinished=0, bytes=0)
        session.add(tenant)
        await session.flush()
        return tenant

    def key(
        self,
        session: AsyncSession,
        tenant: Tenant,
        scopes: Sequence[Scope],
        lifetime: float | None,
        event: str,
        *,
        label: str | None = None,
        detail: str = "",
        api_key: str | None = None,
    ) -> NewKey:
        """A new key that lives `lifetime` seconds (None: for ever); `api_key` is one that somebody has already."""
        made, key_id = new_key()
        api_key = api_key or made
        now, pepper = self._clock(), self._peppers.current
        key = Key(
            id=key_id,
            tenant=tenant.id,
            digest=pepper.digest(fingerprint(api_key)),
            pepper=pepper.version,
            label=label,
            scopes=" ".join(scopes),
            created=now,
            expires=None if lifetime is None else now + lifetime,
        )
        session.add(key)
        self.record(session, event, tenant.id, key_id, detail)
        return NewKey(
            api_key=api_key,
            key_id=key_id,
            tenant=tenant.id,
            username=tenant.username,
            scopes=tuple(scopes),
            expires=key.expires,
            quota=tenant.quota(self._starter),
        )

    def record(
        self, session: AsyncSession, event: str, tenant: str | None, key_id: str | None, detail: str = ""
    ) -> None:
        """A line in the audit."""
        session.add(Audit(at=self._clock(), event=event, tenant=tenant, key_id=key_id, detail=detail))
