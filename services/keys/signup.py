"""Sign-up: whoever asks gets a tenant of his own, unless too many ask, or an invitation is needed."""

from collections.abc import Callable

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import CreateKey
from services.contracts.errors import Code, Problem
from services.keys.settings import HOUR, KeysSettings
from services.keys.tables import Invite, Tenant
from services.keys.tokens import Peppers, invite_text, network_digest


class SignUp:
    """The conditions of a sign-up. The answer never depends on whether the user name is taken: none ever is."""

    def __init__(self, peppers: Peppers, settings: KeysSettings, clock: Callable[[], float]) -> None:
        self._peppers = peppers
        self._settings = settings
        self._clock = clock

    async def admit(self, session: AsyncSession, ask: CreateKey) -> str | None:
        """Raise what stands against it; else the digest of the network that it is to be counted under."""
        if self._settings.signup == "closed":
            raise Problem(Code.SIGNUP_CLOSED)
        origin = network_digest(self._peppers.current, ask.address)
        if origin is not None:
            await self._limit(session, origin)
        if self._settings.signup == "invite":
            await self._take_invite(session, ask.invite)
        return origin

    async def _limit(self, session: AsyncSession, origin: str) -> None:
        since = self._clock() - HOUR
        # Older origins are not needed any more, and so not kept.
        old = update(Tenant).where(Tenant.created <= since, Tenant.origin.is_not(None))
        await session.execute(old.values(origin=None))
        recent = select(func.count(), func.min(Tenant.created)).where(Tenant.created > since)
        for counted, limit in (
            (Tenant.origin == origin, self._settings.signups_per_address),
            (Tenant.origin.is_not(None), self._settings.signups_per_hour),
        ):
            count, first = (await session.execute(recent.where(counted))).one()
            if count >= limit:
                raise Problem(Code.RATE_LIMIT, f"{limit} sign-ups an hour are allowed.", retry_after=first - since)

    async def _take_invite(self, session: AsyncSession, code: str | None) -> None:
        # One statement: of two who send the last use of a code at the same time, one gets it.
        wanted = Invite.digest.in_(self._peppers.digests(invite_text(code or "")))
        take = update(Invite).where(wanted, Invite.uses > 0).values(uses=Invite.uses - 1).returning(Invite.digest)
        if (await session.execute(take)).first() is None:
            raise Problem(Code.INVITE)
