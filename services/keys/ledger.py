"""The usage ledger: one row per job, and the sums that admission and reservation are measured by."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from services.contracts.auth import Admit, Granted, Quota, Reserve, Usage, UsageRequest
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.jobs import State
from services.keys.store import Store
from services.keys.tables import OPEN, Day, Entry, Tenant
from services.runtime.logs import get_logger

DAY = 86_400
ABANDONED = 2 * DAY
"""Seconds after which a job that was admitted and never prepared counts no more; longer than any upload lasts."""


def day_of(moment: float) -> str:
    """The UTC date, `YYYY-MM-DD`, of a moment in Unix seconds."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


class Account:
    """One tenant's rows within one transaction. Every change of a row is a change of the sums above it."""

    def __init__(self, session: AsyncSession, tenant: Tenant) -> None:
        self._session = session
        self.tenant = tenant

    @classmethod
    async def lock(cls, session: AsyncSession, tenant: str) -> "Account | None":
        """The tenant's account, which nobody else changes until the transaction ends; None for no such tenant."""
        row = await session.get(Tenant, tenant, with_for_update=True)
        return None if row is None else cls(session, row)

    async def entry(self, job: str) -> Entry | None:
        """The row of a job."""
        return await self._session.get(Entry, (self.tenant.id, job))

    async def day(self, day: str) -> Day:
        """The sums of a day."""
        row = await self._session.get(Day, (self.tenant.id, day))
        if row is None:
            row = Day(tenant=self.tenant.id, day=day, reserved_ms=0, settled_ms=0)
            self._session.add(row)
            await self._session.flush()
        return row

    async def open(self, job: str, key_id: str, admitted: float, size: int) -> Entry:
        """A new row: an unfinished job of `size` bytes."""
        entry = Entry(
            tenant=self.tenant.id,
            job=job,
            key_id=key_id,
            day=day_of(admitted),
            admitted=admitted,
            state=OPEN,
            bytes=size,
            reserved_ms=0,
        )
        self._session.add(entry)
        await self._count(entry, 1)
        return entry

    async def drop(self, entry: Entry) -> None:
        """Remove a row as if it had never been."""
        await self._count(entry, -1)
        await self._session.delete(entry)

    async def drop_abandoned(self, before: float) -> None:
        """Remove unfinished rows of jobs that were admitted before this moment and of which nothing was ever prepared.

        An ingest that is killed in the middle of an upload leaves such a row, and nobody else knows of it. Removing
        too much does no harm: the first reservation, or the job's end, makes the row again.
        """
        found = select(Entry).where(
            Entry.tenant == self.tenant.id, Entry.state == OPEN, Entry.reserved_ms == 0, Entry.admitted < before
        )
        for entry in (await self._session.scalars(found)).all():
            await self.drop(entry)

    async def change(self, entry: Entry, **fields: str | int) -> None:
        """Set fields of a row."""
        await self._count(entry, -1)
        for name, value in fields.items():
            setattr(entry, name, value)
        await self._count(entry, 1)

    async def _count(self, entry: Entry, sign: int) -> None:
        day = await self.day(entry.day)
        self.tenant.bytes += sign * entry.bytes
        if entry.settled_ms is None:
            self.tenant.unfinished += sign
            day.reserved_ms += sign * entry.reserved_ms
        else:
            day.settled_ms += sign * entry.settled_ms


class Ledger:
    """Admission, reservation and settlement. Every call may be repeated; only the first one counts."""

    def __init__(self, store: Store, starter: Quota, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._starter = starter
        self._clock = clock

    async def admit(self, ask: Admit) -> Granted:
        """Register an unfinished job if the quota allows it. A repeat is free unless it brings more bytes."""
        now = self._clock()
        async with self._store.write() as session:
            account = await self._account(session, ask.tenant)
            quota = account.tenant.quota(self._starter)
            entry = await account.entry(ask.job)
            if ask.release:
                if entry is not None and entry.state == OPEN:
                    await account.drop(entry)
                return Granted(ok=True)
            more = ask.bytes - (entry.bytes if entry else 0)
            if account.tenant.bytes + more > quota.bytes or account.tenant.unfinished >= quota.unfinished_jobs:
                await account.drop_abandoned(now - ABANDONED)
            if (entry is None or entry.state == OPEN) and account.tenant.bytes + more > quota.bytes and more > 0:
                return _refused(Code.QUOTA, f"{quota.bytes} bytes may be stored; erase jobs that are no longer needed.")
            if entry is not None:
                if entry.state == OPEN and more > 0:
                    await account.change(entry, bytes=ask.bytes)
                return Granted(ok=True)
            if account.tenant.unfinished >= quota.unfinished_jobs:
                return _refused(Code.TOO_MANY_JOBS, f"{quota.unfinished_jobs} jobs may be unfinished at once.", 5.0)
            day = await account.day(day_of(now))
            if day.settled_ms + day.reserved_ms >= round(quota.audio_seconds_per_day * 1000):
                return _day_is_used_up(quota, now)
            await account.open(ask.job, ask.key_id, now, ask.bytes)
        return Granted(ok=True)

    async def reserve(self, ask: Reserve) -> Granted:
        """Raise what a job will use to `seconds`, if the day of its admission has that much left."""
        now = self._clock()
        wanted = round(ask.seconds * 1000)
        async with self._store.write() as session:
            account = await self._account(session, ask.tenant)
            # A row may be missing after the database was restored from a back-up: the job goes on all the same.
            entry = await account.entry(ask.job) or await account.open(ask.job, "", now, 0)
            if entry.state != OPEN or wanted <= entry.reserved_ms:
                return Granted(ok=True)
            quota = account.tenant.quota(self._starter)
            day = await account.day(entry.day)
            others = day.settled_ms + day.reserved_ms - entry.reserved_ms
            if others + wanted > round(quota.audio_seconds_per_day * 1000):
                return _day_is_used_up(quota, now)
            await account.change(entry, reserved_ms=wanted)
        return Granted(ok=True)

    async def settle(self, record: Record) -> None:
        """Take over what the job's record says: its size, its end, its erasure.

        Charged are the seconds of the record, and nothing for a failure. The first end counts; erasure frees the
        bytes and leaves the charge.
        """
        async with self._store.write() as session:
            account = await Account.lock(session, record.tenant)
            if account is None:
                get_logger().warning("usage of an unknown tenant", tenant=record.tenant, job=record.job)
                return
            entry = await account.entry(record.job) or await account.open(
                record.job, record.key_id, record.timings.accepted, record.size
            )
            if entry.state == State.ERASED:
                return
            if record.size and record.size != entry.bytes:
                await account.change(entry, bytes=record.size)
            if record.state.terminal and entry.settled_ms is None:
                failed = record.state == State.FAILED or record.failure is not None
                charge = 0 if failed else round((record.seconds or 0.0) * 1000)
                await account.change(entry, state=record.state.value, settled_ms=charge)
            if record.state == State.ERASED:
                await account.change(entry, state=State.ERASED.value, bytes=0)

    async def usage(self, ask: UsageRequest) -> Usage:
        """What a tenant used of its quota, today in UTC."""
        today = day_of(self._clock())
        async with self._store.read() as connection, AsyncSession(connection) as session:
            tenant = await session.get(Tenant, ask.tenant)
            if tenant is None:
                raise Problem(Code.WRONG_KEY)
            day = await session.get(Day, (ask.tenant, today))
            return Usage(
                day=today,
                seconds_today=day.settled_ms / 1000 if day else 0.0,
                seconds_reserved=day.reserved_ms / 1000 if day else 0.0,
                unfinished_jobs=tenant.unfinished,
                bytes=tenant.bytes,
                quota=tenant.quota(self._starter),
            )

    async def _account(self, session: AsyncSession, tenant: str) -> Account:
        account = await Account.lock(session, tenant)
        if account is None:
            raise Problem(Code.WRONG_KEY)
        return account


def _refused(code: Code, detail: str, retry_after: float | None = None) -> Granted:
    return Granted(ok=False, code=code.value, detail=detail, retry_after=retry_after)


def _day_is_used_up(quota: Quota, now: float) -> Granted:
    detail = f"{quota.audio_seconds_per_day / 3600:g} hours of audio a day are used up; the day turns at 00:00 UTC."
    return _refused(Code.QUOTA, detail, DAY - now % DAY)
