"""The keys of a tenant: the first one by signing up, further ones, rotation, revocation."""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from prometheus_client import Counter
from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import DEFAULT_SCOPES, CreateKey, KeyInfo, KeyList, KeyRef, NewKey, Scope
from services.contracts.errors import Code, Problem
from services.keys.mint import Mint
from services.keys.settings import DAY, HOUR, KeysSettings
from services.keys.signup import SignUp
from services.keys.store import Store
from services.keys.tables import Key, Tenant, split_scopes
from services.keys.tokens import Peppers, valid_label
from services.keys.webhooks import follow

LISTED_AFTER_END = 30 * DAY
"""Seconds that a key which has ended stays in its owner's list."""

Announce = Callable[[str], Awaitable[None]]
"""Tells everybody who remembers a verdict that the key of this id has been revoked."""


class KeyService:
    """Everything that a key's owner may do. Each call is one transaction, with its line in the audit."""

    def __init__(
        self,
        store: Store,
        peppers: Peppers,
        settings: KeysSettings,
        announce: Announce,
        issued: Counter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settings = settings
        self._announce = announce
        self._issued = issued
        self._clock = clock
        self._mint = Mint(peppers, settings.starter_quota, clock)
        self._sign_up = SignUp(peppers, settings, clock)

    async def create(self, ask: CreateKey) -> NewKey:
        """A key of a new tenant, or another one of a tenant that is known."""
        lifetime = self._lifetime(ask.expires_in)
        if ask.label is not None and not valid_label(ask.label):
            raise Problem(Code.MALFORMED, "A label has 1 to 64 printable characters.")
        async with self._store.write() as session:
            if ask.tenant is None:
                event = "sign_up"
                if ask.username is None or not valid_label(ask.username):
                    raise Problem(Code.USERNAME)
                scopes = _within(ask.scopes, DEFAULT_SCOPES)
                tenant = await self._mint.tenant(session, ask.username, await self._sign_up.admit(session, ask))
            else:
                event = "create"
                tenant, keys = await self._tenant(session, ask.tenant)
                scopes = _within(ask.scopes, DEFAULT_SCOPES if ask.by is None else self._scopes_of(ask.by, keys))
                self._limit_keys(keys, more=1)
            made = self._mint.key(session, tenant, scopes, lifetime, event, label=ask.label)
        self._issued.labels(event).inc()
        return made

    async def rotate(self, ask: KeyRef) -> NewKey:
        """A new key with the scopes and the label of an old one, which goes on working for `overlap` seconds."""
        overlap = self._settings.rotation_overlap if ask.overlap is None else ask.overlap
        if not 0 <= overlap <= self._settings.rotation_overlap_max:
            raise Problem(Code.MALFORMED, f"overlap: 0 to {self._settings.rotation_overlap_max:g} seconds.")
        now, lifetime = self._clock(), self._settings.key_lifetime
        async with self._store.write() as session:
            tenant, keys = await self._tenant(session, ask.tenant)
            old = next((key for key in keys if key.id == ask.key_id and key.live(now)), None)
            if old is None:
                raise Problem(Code.KEY_NOT_FOUND)
            scopes = split_scopes(old.scopes)
            if ask.by is not None:
                _within(scopes, self._scopes_of(ask.by, keys))
            # A key whose rotation was answered into the void may be rotated again; that adds one to those in use.
            self._limit_keys(keys, more=0 if old.deprecated is None else 1)
            made = self._mint.key(
                session, tenant, scopes, lifetime, "rotate", label=old.label, detail=f"follows {old.id}"
            )
            await follow(session, old, made.key_id)
            if tenant.drop_key == old.id:
                tenant.drop_key = made.key_id
            old.deprecated = old.deprecated or now
            old.expires = min(old.expires or now + overlap, now + overlap)
        self._issued.labels("rotate").inc()
        if overlap == 0:
            await self._announce(old.id)
        return made

    async def revoke(self, ask: KeyRef) -> KeyInfo:
        """End a key at once, and tell everybody who may remember it. A repeat only tells again."""
        async with self._store.write() as session:
            key = await session.get(Key, ask.key_id or "", with_for_update=True)
            if key is None or key.tenant != ask.tenant:
                raise Problem(Code.KEY_NOT_FOUND)
            if key.revoked is None:
                key.revoked = self._clock()
                self._mint.record(session, "revoke", key.tenant, key.id)
        await self._announce(key.id)
        return key.info()

    async def list_keys(self, ask: KeyRef) -> KeyList:
        """The keys of a tenant, oldest first: those that work, and those that ended in the last 30 days."""
        ended = func.coalesce(Key.revoked, Key.expires)
        query = select(Key).where(
            Key.tenant == ask.tenant, or_(ended.is_(None), ended > self._clock() - LISTED_AFTER_END)
        )
        async with self._store.read() as connection, AsyncSession(connection) as session:
            found = (await session.scalars(query.order_by(Key.created, Key.id))).all()
            return KeyList(keys=tuple(key.info() for key in found))

    async def _tenant(self, session: AsyncSession, tenant_id: str) -> tuple[Tenant, Sequence[Key]]:
        """The tenant, locked, and those of its keys that work or were made within the hour."""
        tenant = await session.get(Tenant, tenant_id, with_for_update=True)
        if tenant is None:
            raise Problem(Code.WRONG_KEY)
        now = self._clock()
        works = and_(Key.revoked.is_(None), or_(Key.expires.is_(None), Key.expires > now))
        query = select(Key).where(Key.tenant == tenant_id, or_(works, Key.created > now - HOUR))
        return tenant, (await session.scalars(query)).all()

    def _scopes_of(self, key_id: str, keys: Iterable[Key]) -> tuple[Scope, ...]:
        """What the asking key may do, and so may hand on."""
        for key in keys:
            if key.id == key_id and key.live(self._clock()):
                return split_scopes(key.scopes)
        raise Problem(Code.WRONG_KEY)

    def _limit_keys(self, keys: Iterable[Key], more: int) -> None:
        """Refuse `more` keys in use than a tenant may have, and making keys without end."""
        now, most = self._clock(), self._settings.keys_per_tenant
        live = [key for key in keys if key.live(now)]
        in_use = sum(key.deprecated is None for key in live)
        if in_use + more > most or len(live) >= 2 * most:
            raise Problem(Code.TOO_MANY_KEYS, f"{most} keys may be in use, and as many in rotation.")
        made = sorted(key.created for key in keys if key.created > now - HOUR)
        if len(made) >= self._settings.keys_made_per_hour:
            detail = f"{self._settings.keys_made_per_hour} keys an hour may be made."
            raise Problem(Code.RATE_LIMIT, detail, retry_after=made[0] + HOUR - now)

    def _lifetime(self, asked: float | None) -> float:
        most = self._settings.key_lifetime_max
        if asked is None:
            return self._settings.key_lifetime
        if not 0 < asked <= most:
            raise Problem(Code.MALFORMED, f"expires_in: more than 0 and at most {most:g} seconds.")
        return asked


def _within(wanted: Collection[Scope] | None, allowed: Collection[Scope]) -> tuple[Scope, ...]:
    """The scopes that were asked for (by default the usual ones), if they all may be handed on."""
    if wanted is None:
        return tuple(scope for scope in DEFAULT_SCOPES if scope in allowed)
    if missing := [scope.value for scope in wanted if scope not in allowed]:
        raise Problem(Code.SCOPE, "Not yours to hand on: " + ", ".join(missing) + ".")
    return tuple(scope for scope in Scope if scope in wanted)
