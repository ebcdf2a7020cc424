"""Admission: a recording that came in through any door becomes a job.

    source → claim → job.json → barrier → record → message → answer

Every step may be repeated. Up to the claim nobody knows of the recording, and what goes wrong undoes all of it. From
the claim on nothing is undone: a repeat finds the claim and completes the same job, the reconciler completes one whose
`job.json` is there, and the sweep removes a recording that never got one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass

from services.contracts import objects, subjects
from services.contracts.auth import Claims
from services.contracts.callbacks import callback_of
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.ids import is_job_id, new_job_id
from services.contracts.jobs import Door, Lane, Manifest, Options, State
from services.contracts.parts import JobWork
from services.ingest import claims
from services.ingest.asked import NO_ORIGIN, Ask, Asked, Origin, ask_of, manifest_of
from services.ingest.quota import Quota
from services.ingest.uploads import Intake, too_large, unless_failed
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger
from services.runtime.records import Records, fresh

SHORT = 4 << 20
"""Bytes up to which a body is stored while keys is still being asked: the answer, a synced write, takes as long."""


Place = Callable[[str], Awaitable[None]]
"""Puts a recording at a key of the store."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job that a request became; `repeated` when it was a job already."""

    record: Record
    repeated: bool


class Admission:
    """Admits jobs. Raises `Problem` for what the caller can change, `Unavailable` when a part of us is away."""

    def __init__(
        self, bus: Bus, blobs: Blobs, records: Records, known: claims.Claims, quota: Quota, *, max_upload: int
    ) -> None:
        self._bus = bus
        self._quota = quota
        self._blobs = blobs
        self._records = records
        self._claims = known
        self._max_upload = max_upload
        self._log = get_logger()

    async def receive(
        self,
        who: Claims,
        chunks: AsyncIterator[bytes],
        *,
        options: Options | Asked | Ask,
        door: Door = Door.HTTP,
        lane: Lane = Lane.INTERACTIVE,
        length: int | None = None,
        at_most: int | None = None,
        sha256: str | None = None,
        name: str | None = None,
        idempotency_key: str | None = None,
        origin: Origin = NO_ORIGIN,
        job: str | None = None,
    ) -> Admitted:
        """Take a recording in, in constant memory, and answer when nothing can lose it any more.

        `length` (bytes) and `sha256` (hexadecimal) are checked where the client gave them; `at_most` is for the quota
        where the length is not known, as in a form. `name` is the client's file name. Equal bytes with equal options
        and callback within an hour are one job; so are requests with one `idempotency_key` within a day, which must
        then ask for the same (IDEMPOTENCY). `job` is an id that follows
        from the recording, where there is one: its `job.json` is the claim then.
        """
        intake = Intake(chunks, limit=self._max_upload, length=length, sha256=sha256)
        ask = ask_of(who, options)
        if idempotency_key is not None:
            repeat = await self._repeat(who, intake, ask, door, idempotency_key)
            if repeat is not None:
                return repeat

        # What is stored under such an id is not undone, so it must be allowed first.
        named = job is not None

        async def bring(job: str) -> Manifest:
            expected = length or at_most or 0
            registering = asyncio.create_task(self._quota.take(who, job, expected), name="register")
            try:
                if named or not 0 < expected <= SHORT:
                    await registering
                await self._blobs.upload(objects.source(who.tenant, job), unless_failed(registering, intake))
            finally:
                await asyncio.gather(registering, return_exceptions=True)
            registering.result()
            asked = await ask()
            if intake.size > expected:
                await self._quota.take(who, job, intake.size)
            manifest = manifest_of(who, job, asked, door, lane, intake.sha256, intake.size, name)
            return manifest.model_copy(update=asdict(origin))

        if job is not None:
            return await self._admit_as(who, job, bring)
        return await self._admit(who, bring, idempotency_key)

    async def known(self, who: Claims, door: Door, own_id: str) -> Record | None:
        """The job that a submission with this id of the publisher's became, if it did; it goes on as it should."""
        claim = await self._claims.find(claims.token_of(who.tenant, door, own_id, ""))
        record = await self._records.get(who.tenant, claim.job) if claim else None
        if record is None or record.state == State.ERASED:
            return None
        await self._offer(record)
        return record

    async def again(
        self,
        who: Claims,
        source: str,
        *,
        options: Options | Asked | Ask,
        lane: Lane = Lane.INTERACTIVE,
        idempotency_key: str | None = None,
    ) -> Admitted:
        """Do the recording of the job `source` again with other options, as a new job with a copy of its own."""
        tenant = who.tenant
        theirs = await self._records.manifest(tenant, source) if is_job_id(source) else None
        if theirs is None or await self._blobs.stat(objects.source(tenant, source)) is None:
            ended = await self._records.outcome(tenant, source) if is_job_id(source) else None
            if theirs is not None and ended is None:
                raise Problem(Code.NOT_FINISHED)  # a live session, whose recording is there when it has ended
            raise Problem(Code.ERASED if ended else Code.JOB_NOT_FOUND)
        if theirs.size > self._max_upload:
            raise too_large(self._max_upload)
        asked = await ask_of(who, options)()

        async def bring(job: str) -> Manifest:
            await self._quota.take(who, job, theirs.size)
            await self._blobs.copy(objects.source(tenant, source), objects.source(tenant, job))
            manifest = manifest_of(who, job, asked, Door.HTTP, lane, theirs.sha256, theirs.size, theirs.name)
            return manifest.model_copy(update={"source_of": source})

        return await self._admit(who, bring, idempotency_key)

    async def placed(
        self,
        who: Claims,
        place: Place,
        *,
        own_id: str,
        length: int,
        options: Options | Asked | Ask,
        sha256: str | None = None,
        name: str | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> Admitted:
        """Admit a recording that lies in the store already, under an id of its own: what a client put there itself.

        `place` copies it to the key it is given. It is the copy that is hashed and checked: nobody else can change it.
        The same id again is the same job, with the same options; else UPLOAD_USED.
        """
        repeat = await self.placed_before(who, own_id, options)
        if repeat is not None:
            return repeat
        asked = await ask_of(who, options)()

        async def bring(job: str) -> Manifest:
            await self._quota.take(who, job, length)
            key = objects.source(who.tenant, job)
            await place(key)
            intake = Intake(self._blobs.read(key), limit=self._max_upload, length=length, sha256=sha256)
            async for _ in intake:
                pass
            return manifest_of(who, job, asked, Door.HTTP, lane, intake.sha256, intake.size, name)

        return await self._admit(who, bring, own_id)

    async def placed_before(self, who: Claims, own_id: str, options: Options | Asked | Ask) -> Admitted | None:
        """The job that `placed` made of this id, if it did. Raises `Problem` UPLOAD_USED."""
        claim = await self._claims.find(claims.token_of(who.tenant, Door.HTTP, own_id, ""))
        record = await self._records.get(who.tenant, claim.job) if claim else None
        manifest = await self._records.manifest(who.tenant, claim.job) if claim else None
        if claim is None or record is None or manifest is None:
            return None
        asked = await ask_of(who, options)()
        if claim.body != claims.body_of(manifest.sha256, asked.options, asked.callback):
            raise Problem(Code.UPLOAD_USED, job_id=record.job)
        await self._offer(record)
        return Admitted(record, repeated=True)

    async def _repeat(self, who: Claims, intake: Intake, ask: Ask, door: Door, idempotency_key: str) -> Admitted | None:
        """The job of a known `Idempotency-Key`: the body is read and compared, and need not be stored."""
        token = claims.token_of(who.tenant, door, idempotency_key, "")
        claim = await self._claims.find(token)
        record = await self._records.get(who.tenant, claim.job) if claim else None
        if claim is None or record is None or record.state == State.ERASED:
            return None
        async for _ in intake:
            pass
        asked = await ask()
        if claim.body != claims.body_of(intake.sha256, asked.options, asked.callback):
            raise Problem(Code.IDEMPOTENCY)
        await self._offer(record)
        return Admitted(record, repeated=True)

    async def _admit(
        self, who: Claims, bring: Callable[[str], Awaitable[Manifest]], idempotency_key: str | None
    ) -> Admitted:
        job = new_job_id()
        try:
            manifest = await bring(job)
        except BaseException:  # also when the client has hung up: nobody knows of this job, so all of it goes
            await self._undo(who, job)
            raise
        body = claims.body_of(manifest.sha256, manifest.options, callback_of(manifest))
        token = claims.token_of(who.tenant, manifest.door, idempotency_key, body)
        try:
            holder = await self._claims.take(token, body, who.tenant, job)
        except Problem:
            await self._undo(who, job)
            raise
        except Unavailable:
            # The claim may have been stored all the same, and another may build on our recording: the sweep decides.
            await self._quota.release_if_can(who.tenant, job)
            raise
        if holder == job:
            return Admitted(await self._complete(who, manifest), repeated=False)
        try:
            winner = manifest.model_copy(update={"job": holder})
            return Admitted(await self._complete(who, winner, ours=job), repeated=True)
        finally:
            await self._undo(who, job)

    async def _admit_as(self, who: Claims, job: str, bring: Callable[[str], Awaitable[Manifest]]) -> Admitted:
        try:
            manifest = await bring(job)
        except BaseException:
            # What is stored stays: another may be admitting the same recording under this id. The sweep decides.
            await self._quota.release_if_can(who.tenant, job)
            raise
        return Admitted(await self._complete(who, manifest), repeated=False)

    async def _complete(self, who: Claims, manifest: Manifest, ours: str | None = None) -> Record:
        """Everything from `job.json` on, for our job or for that of a claim that we found.

        `ours` is the id under which we hold the same recording, if the job is another's.
        """
        tenant, job = manifest.tenant, manifest.job
        try:
            record = await self._records.get(tenant, job) if ours else None
            if record is None:
                if ours is not None:
                    await self._adopt(who, manifest, ours)
                first = await self._blobs.put_once(objects.manifest(tenant, job), manifest.encode())
                await self._blobs.durable()
                # Where job.json was there already it is binding, and the job may have gone far: the objects know.
                record = await (self._start(manifest) if first else self._records.rebuild(tenant, job))
                if first:
                    self._log.info("a job was admitted", tenant=tenant, job=job, lane=manifest.lane, kind=manifest.door)
            if record is None:
                raise Unavailable("store")  # job.json was there a moment ago
            await self._offer(record)
        except Unavailable:
            # A job that goes on all the same is counted again by its first event.
            await self._quota.release_if_can(who.tenant, job)
            raise
        return record

    async def _adopt(self, who: Claims, manifest: Manifest, ours: str) -> None:
        """Make good what the other's admission may lack: its place in the quota and, after a power cut, its source."""
        await self._quota.release_if_can(who.tenant, ours)
        await self._quota.take(who, manifest.job, manifest.size)
        theirs = objects.source(manifest.tenant, manifest.job)
        if await self._blobs.stat(theirs) is None:
            await self._blobs.copy(objects.source(manifest.tenant, ours), theirs)

    async def _start(self, manifest: Manifest) -> Record:
        record = fresh(manifest)
        if await self._records.create(record):
            return record
        return await self._records.get(manifest.tenant, manifest.job) or record

    async def _offer(self, record: Record) -> None:
        """Ask for the job to be prepared, unless that is done. Asking again is always safe."""
        if not record.state.terminal and not record.sealed:
            work = JobWork(job=record.job, tenant=record.tenant, size=record.size, model=record.model)
            await self._bus.offer(subjects.job(record.lane, record.tenant, record.job), work, record.traceparent)

    async def _undo(self, who: Claims, job: str) -> None:
        """Remove what lies under an id that came to nothing; what cannot be removed now, the sweep removes."""
        try:
            await self._blobs.delete([objects.source(who.tenant, job)])
        except Unavailable:
            self._log.warning("a recording is left to the sweep", tenant=who.tenant, job=job)
        await self._quota.release_if_can(who.tenant, job)
