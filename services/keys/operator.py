"""What the operator may do and a key's owner may not."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import DEFAULT_SCOPES, NewKey, Scope, fingerprint, well_formed
from services.contracts.errors import Code, Problem
from services.keys.ledger import day_of
from services.keys.mint import Mint
from services.keys.settings import KeysSettings
from services.keys.store import Store
from services.keys.tables import Day, Invite, Key, Tenant, WebhookSecret
from services.keys.tokens import LABEL_MAX, Peppers, invite_text, new_invite, valid_label


@dataclass(frozen=True, slots=True)
class OldUser:
    """A row of the old service's `users` table."""

    username: str
    api_key: str


class Operator:
    """Works on the database itself, beside the running service or without it."""

    def __init__(
        self, store: Store, peppers: Peppers, settings: KeysSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._clock = clock
        self._mint = Mint(peppers, settings.starter_quota, clock)

    async def create(self, username: str, scopes: Iterable[Scope], lifetime: float | None) -> NewKey:
        """A tenant with a key, whatever the sign-up mode; `lifetime` in seconds, None = for ever."""
        if not valid_label(username):
            raise Problem(Code.USERNAME)
        async with self._store.write() as session:
            tenant = await self._mint.tenant(session, username)
            return self._mint.key(session, tenant, tuple(dict.fromkeys(scopes)), lifetime, "operator")

    async def keys(self, tenant: str | None = None) -> list[tuple[Tenant, Key]]:
        """Every key with its tenant, or those of one tenant, oldest first."""
        query = select(Tenant, Key).join(Key, Key.tenant == Tenant.id).order_by(Key.created, Key.id)
        if tenant is not None:
            query = query.where(Tenant.id == tenant)
        async with self._store.read() as connection, AsyncSession(connection) as session:
            return [(row[0], row[1]) for row in (await session.execute(query)).all()]

    async def tenant_of(self, key_id: str) -> str:
        """Whose key this is."""
        async with self._store.read() as connection:
            tenant = (await connection.execute(select(Key.tenant).where(Key.id == key_id))).scalar()
        if tenant is None:
            raise Problem(Code.KEY_NOT_FOUND, "There is no key of that id; `desifre keys list` shows them.")
        return str(tenant)

    async def set_quota(
        self,
        tenant: str,
        seconds: float | None = None,
        jobs: int | None = None,
        stored: int | None = None,
        streams: int | None = None,
    ) -> None:
        """Grant a tenant something else than the starter quota; what is None stays as it is."""
        asked = {"quota_seconds": seconds, "quota_jobs": jobs, "quota_bytes": stored, "quota_streams": streams}
        granted = {name: value for name, value in asked.items() if value is not None}
        async with self._store.write() as session:
            row = await session.get(Tenant, tenant, with_for_update=True)
            if row is None:
                raise Problem(Code.KEY_NOT_FOUND, "There is no such tenant; `desifre keys list` shows them.")
            for name, value in granted.items():
                setattr(row, name, value)
            detail = " ".join(f"{name}={value:g}" for name, value in granted.items())
            self._mint.record(session, "quota", tenant, None, detail)

    async def usage(self) -> list[tuple[Tenant, float]]:
        """Every tenant, who stores most first, with the seconds of audio that count today in UTC."""
        today = (Day.tenant == Tenant.id) & (Day.day == day_of(self._clock()))
        query = select(Tenant, Day.settled_ms + Day.reserved_ms).outerjoin(Day, today)
        async with self._store.read() as connection, AsyncSession(connection) as session:
            rows = await session.execute(query.order_by(Tenant.bytes.desc(), Tenant.id))
            return [(row[0], (row[1] or 0) / 1000) for row in rows.all()]

    async def invite(self, uses: int) -> str:
        """A code with which `uses` sign-ups can be made where invitations are asked for. Shown once."""
        code, pepper = new_invite(), self._peppers.current
        digest = pepper.digest(invite_text(code))
        async with self._store.write() as session:
            session.add(Invite(digest=digest, pepper=pepper.version, uses=uses, created=self._clock()))
            self._mint.record(session, "invite", None, None, f"uses={uses}")
        return code

    async def take_over(self, users: Iterable[OldUser]) -> tuple[int, int, int]:
        """Keys of the old service, each with a tenant of its own: how many are new, known and unusable.

        They go on working and never expire. All or none: an error half-way leaves nothing behind.
        """
        new = known = unusable = 0
        async with self._store.write() as session:
            for user in users:
                if not well_formed(user.api_key):
                    unusable += 1
                    continue
                digests = self._peppers.digests(fingerprint(user.api_key))
                if await session.scalar(select(Key.id).where(Key.digest.in_(digests))):
                    known += 1
                    continue
                tenant = await self._mint.tenant(session, _as_label(user.username))
                self._mint.key(session, tenant, DEFAULT_SCOPES, None, "import", api_key=user.api_key)
                new += 1
        return new, known, unusable

    async def by_pepper(self) -> dict[str, int]:
        """How many keys that work stand under which version of the pepper."""
        query = select(Key.pepper, func.count()).where(*self._live()).group_by(Key.pepper)
        async with self._store.read() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def signing_by_previous(self) -> set[str]:
        """Ids of keys that work and have a webhook secret which signs and follows from the previous pepper.

        Those never move over: another pepper would be another secret, and its receiver knows this one.
        """
        query = select(Key.id).join(WebhookSecret, WebhookSecret.key_id == Key.id).where(*self._live()).distinct()
        query = query.where(WebhookSecret.until.is_(None) | (WebhookSecret.until > self._clock()))
        async with self._store.read() as connection:
            rows = await connection.execute(query.where(WebhookSecret.pepper.in_(self._peppers.versions[1:])))
            return {row[0] for row in rows}

    async def invited_by_previous(self) -> int:
        """How many invitations that are good for a sign-up stand under the previous pepper: they never move over."""
        query = select(func.count()).select_from(Invite)
        query = query.where(Invite.uses > 0, Invite.pepper.in_(self._peppers.versions[1:]))
        async with self._store.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def revoke_unmoved(self) -> int:
        """End every key that stands under another pepper than the present one; how many. Nobody is told."""
        now = self._clock()
        async with self._store.write() as session:
            query = select(Key).where(*self._live(), Key.pepper != self._peppers.current.version)
            keys = (await session.scalars(query.with_for_update())).all()
            for key in keys:
                key.revoked = now
                self._mint.record(session, "revoke", key.tenant, key.id, "its pepper was forgotten")
        return len(keys)

    def _live(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        """What holds of a key that works, as `Key.live` has it."""
        return Key.revoked.is_(None), or_(Key.expires.is_(None), Key.expires > self._clock())


def _as_label(username: str) -> str:
    """The old service took any text as a name; ours is printable and short."""
    label = "".join(char for char in username if char.isprintable())[:LABEL_MAX]
    return label if valid_label(label) else "imported"
