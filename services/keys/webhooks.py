"""Where a key's jobs call back by default, and the secrets that sign what they send.

A secret has to be had again whenever something is signed, so a digest of it will not do. It is not stored either: it
follows from its random name under the pepper, and the database holds the name alone.
"""

import base64
import secrets
import time
from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import KeyInfo, KeyRef, NewSecret, Secrets, SetCallback
from services.contracts.errors import Code, Problem
from services.keys.mint import Mint
from services.keys.settings import KeysSettings
from services.keys.store import Store
from services.keys.tables import Key, WebhookSecret
from services.keys.tokens import Peppers

SIGNING = 4
"""Secrets of a key that sign at once: whoever makes more in a day has the oldest replaced."""
SIGNERS = 10
"""Secrets that sign for a tenant's jobs without a key, the newest ones."""


class Webhooks:
    """Each change is one transaction, with its line in the audit."""

    def __init__(
        self, store: Store, peppers: Peppers, settings: KeysSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._overlap = settings.rotation_overlap
        self._clock = clock
        self._mint = Mint(peppers, settings.starter_quota, clock)

    async def set_callback(self, ask: SetCallback) -> KeyInfo:
        """Where the key's jobs call back that name no other address."""
        async with self._store.write() as session:
            key = await _key(session, ask.tenant, ask.key_id, lock=True)
            key.callback_url = ask.url
            self._mint.record(session, "callback", key.tenant, key.id, "set" if ask.url else "removed")
        return key.info()

    async def rotate(self, ask: KeyRef) -> NewSecret:
        """A new secret, which signs at once; the one before it signs beside it for a while."""
        now, pepper = self._clock(), self._peppers.current
        async with self._store.write() as session:
            key = await _key(session, ask.tenant, ask.key_id, lock=True)
            before = await _signing(session, now, Key.id == key.id)
            for old in before:
                old.until = min(old.until or now + self._overlap, now + self._overlap)
            kept = [old.name for old in before[: SIGNING - 1]]
            gone = delete(WebhookSecret).where(WebhookSecret.key_id == key.id, WebhookSecret.name.not_in(kept))
            await session.execute(gone.execution_options(synchronize_session=False))
            name = secrets.token_hex(16)
            session.add(WebhookSecret(key_id=key.id, name=name, pepper=pepper.version, made=now, until=None))
            self._mint.record(session, "webhook_secret", key.tenant, key.id)
        until = before[0].until if before else None
        return NewSecret(key_id=key.id, secret=_written(pepper.webhook_secret(name)), old_until=until)

    async def secrets(self, ask: KeyRef) -> Secrets:
        """What signs for this key now, the newest first; none when the pepper that they were made under is gone.

        A job that came in by no key, as through the bucket, is signed for every key of its tenant. Where there is no
        secret yet, one signs that nobody was shown: no callback ever goes out unsigned.
        """
        now = self._clock()
        async with self._store.read() as connection, AsyncSession(connection) as session:
            key = await session.get(Key, ask.key_id or "")
            if key is not None and key.tenant == ask.tenant:
                signer, rows = key.id, await _signing(session, now, Key.id == key.id)
            else:
                signer, rows = ask.tenant, await _signing(session, now, Key.tenant == ask.tenant, Key.revoked.is_(None))
        if not rows:
            return Secrets(secrets=(_written(self._peppers.current.webhook_secret(signer)),))
        # A key and the one that follows it share their secrets.
        named = {row.name: self._peppers.find(row.pepper) for row in rows[:SIGNERS]}
        return Secrets(secrets=tuple(_written(pepper.webhook_secret(name)) for name, pepper in named.items() if pepper))


async def follow(session: AsyncSession, old: Key, key_id: str) -> None:
    """Have the key that replaces `old` call back to the same place, signed as before: no receiver notices."""
    await session.flush()
    new = await session.get_one(Key, key_id)
    new.callback_url = old.callback_url
    rows = (await session.scalars(select(WebhookSecret).where(WebhookSecret.key_id == old.id))).all()
    for row in rows:
        session.add(WebhookSecret(key_id=key_id, name=row.name, pepper=row.pepper, made=row.made, until=row.until))


async def _key(session: AsyncSession, tenant: str, key_id: str | None, *, lock: bool = False) -> Key:
    # Also one that was revoked: its jobs go on, and so does what they have to tell.
    key = await session.get(Key, key_id or "", with_for_update=lock or None)
    if key is None or key.tenant != tenant:
        raise Problem(Code.KEY_NOT_FOUND)
    return key


async def _signing(session: AsyncSession, now: float, *whose: ColumnElement[bool]) -> Sequence[WebhookSecret]:
    """Secrets that sign, the newest first."""
    query = select(WebhookSecret).join(Key, Key.id == WebhookSecret.key_id).where(*whose)
    query = query.where(or_(WebhookSecret.until.is_(None), WebhookSecret.until > now))
    return (await session.scalars(query.order_by(WebhookSecret.until.is_not(None), WebhookSecret.made.desc()))).all()


def _written(secret: bytes) -> str:
    return "whsec_" + base64.b64encode(secret).decode()
