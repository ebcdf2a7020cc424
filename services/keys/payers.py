"""Which key pays for a tenant's part of the bucket `drop`: what came in there names no key itself."""

import time
from collections.abc import Callable, Sequence

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import NO_KEY_PAYS, Claims, Payer, Scope
from services.contracts.errors import Code, Problem
from services.keys.mint import Mint
from services.keys.settings import KeysSettings
from services.keys.store import Store
from services.keys.tables import Key, Tenant, split_scopes
from services.keys.tokens import Peppers


class Payers:
    """Names them, at the operator's word, and tells who pays. A key that replaces one by rotation pays in its place.

    `used` takes the id of each key that paid.
    """

    def __init__(
        self,
        store: Store,
        peppers: Peppers,
        settings: KeysSettings,
        used: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._used = used
        self._clock = clock
        self._streams = settings.starter_quota.streams
        self._mint = Mint(peppers, settings.starter_quota, clock)

    async def claims(self, ask: Payer) -> Claims:
        """In whose name the tenant's bucket submits. Raises `Problem` DROP_KEY, WRONG_KEY for no such tenant."""
        async with self._store.read() as connection, AsyncSession(connection) as session:
            tenant = await session.get(Tenant, ask.tenant)
            key = await session.get(Key, tenant.drop_key) if tenant is not None and tenant.drop_key else None
        if tenant is None:
            raise Problem(Code.WRONG_KEY)
        if tenant.drop_key is None:
            return Claims(tenant=tenant.id, key_id=NO_KEY_PAYS, username=NO_KEY_PAYS, scopes=(Scope.SUBMIT,))
        if key is None or not key.live(self._clock()):
            why = "was revoked" if key is not None and key.revoked is not None else "has expired"
            raise Problem(Code.DROP_KEY, f"The key {tenant.drop_key} {why}.")
        self._used(key.id)
        return Claims(
            tenant=tenant.id,
            key_id=key.id,
            username=tenant.username,
            scopes=split_scopes(key.scopes),
            streams=self._streams if tenant.quota_streams is None else tenant.quota_streams,
            expires=key.expires,
            callback_url=key.callback_url,
        )

    async def name(self, tenant_id: str, key_id: str | None = None) -> str:
        """Have this key of the tenant pay from now on, and return its id.

        Without one the key that pays already goes on, or the tenant's only key in use is taken. Raises `Problem`
        KEY_NOT_FOUND, which says what there is, or SCOPE: who pays must be allowed to submit.
        """
        async with self._store.write() as session:
            tenant = await session.get(Tenant, tenant_id, with_for_update=True)
            if tenant is None:
                raise Problem(Code.KEY_NOT_FOUND, "There is no such tenant; `desifre keys list` shows them.")
            query = select(Key).where(Key.tenant == tenant_id).order_by(Key.created, Key.id)
            keys = [key for key in (await session.scalars(query)).all() if key.live(self._clock())]
            key = _chosen(keys, key_id, tenant.drop_key)
            if tenant.drop_key != key.id:
                tenant.drop_key = key.id
                self._mint.record(session, "drop_key", tenant.id, key.id)
            return key.id

    async def forget(self, tenant_id: str) -> None:
        """Have no key of the tenant pay any more."""
        async with self._store.write() as session:
            tenant = await session.get(Tenant, tenant_id, with_for_update=True)
            if tenant is not None and tenant.drop_key is not None:
                self._mint.record(session, "drop_key", tenant.id, tenant.drop_key, "removed")
                tenant.drop_key = None

    async def every(self) -> list[tuple[str, str, bool]]:
        """Each tenant for whose bucket a key was named: tenant, key, and whether the key still works."""
        query = select(Tenant.id, Tenant.drop_key, Key).where(Tenant.drop_key.is_not(None)).order_by(Tenant.id)
        query = query.outerjoin(Key, and_(Key.id == Tenant.drop_key, Key.tenant == Tenant.id))
        async with self._store.read() as connection, AsyncSession(connection) as session:
            found = (await session.execute(query)).all()
            return [(row[0], str(row[1]), row[2] is not None and row[2].live(self._clock())) for row in found]


def _chosen(keys: Sequence[Key], asked: str | None, before: str | None) -> Key:
    """Of a tenant's keys that work, the one that is to pay."""
    submitting = [key for key in keys if Scope.SUBMIT in split_scopes(key.scopes)]
    wanted = asked or before
    for key in keys:
        if key.id == wanted:
            if key not in submitting:
                raise Problem(Code.SCOPE, f"The key {key.id} has no scope `{Scope.SUBMIT}`.")
            return key
    in_use = [key for key in submitting if key.deprecated is None]
    if asked is None and len(in_use) == 1:
        return in_use[0]
    there = ", ".join(key.id for key in in_use) or "none"
    detail = "The tenant has no such key that works" if asked else "Say with --key which one pays"
    raise Problem(Code.KEY_NOT_FOUND, f"{detail}. In use: {there}.")
