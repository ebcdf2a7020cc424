"""A cut becomes a part: paid for, stored, on the bus, in the record."""

import asyncio
import hashlib

from services.contracts import auth, objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Manifest
from services.contracts.parts import SAMPLE_RATE, Part, PartWork
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.records import Records
from services.transcriber.fresh import Fresh
from services.transcriber.prepare.cut import Cut


class Diverged(Exception):  # noqa: N818 - what happened, not a fault
    """Another prepare of the same job has cut this part elsewhere: its cut is binding, so we begin again with it."""


class OverQuota(Exception):  # noqa: N818
    """The tenant's seconds are used up: nothing more is published."""

    def __init__(self, detail: str | None) -> None:
        super().__init__(detail)
        self.detail = detail


class Ended(Exception):  # noqa: N818
    """The job was cancelled or ended meanwhile."""


class Publisher:
    """Publishes parts. Every step may be repeated: what is stored is binding, what is queued is not queued again."""

    def __init__(self, bus: Bus, blobs: Blobs, records: Records, fresh: Fresh) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._fresh = fresh

    async def publish(
        self, record: Record, manifest: Manifest, n: int, cut: Cut, bound: Part | None, seconds: float
    ) -> None:
        """Store a part, publish it, note it in the record. The samples go first: whoever reads the meta finds them.

        `seconds`: what the job uses of its quota with this part.
        """
        tenant, job = record.tenant, record.job
        part = bound or Part(
            n=n,
            start=cut.start,
            end=cut.end,
            overlap=cut.overlap,
            sha256=hashlib.sha256(cut.pcm).hexdigest(),
            speech=cut.speech,
            channels=cut.channels if manifest.options.channels == "separate" else None,
        )
        both = await asyncio.gather(
            self.reserve(record, seconds),
            self._store(record, part, cut.pcm, bound=bound is not None),
            # Both are waited for: samples written after those of a job that has ended were dropped would stay.
            return_exceptions=True,
        )
        for one in both:
            if isinstance(one, BaseException):
                raise one
        self._fresh.keep(job, part, cut.pcm)
        await self.offer(record, manifest, part)

        def known(current: Record) -> Record | None:
            if n < current.parts:
                return None
            update = {
                "parts": n + 1,
                "audio": current.audio + part.seconds,
                "duration": max(current.duration, part.end / SAMPLE_RATE),
            }
            return current.model_copy(update=update)

        if (await self._records.change(tenant, job, known)).state.terminal:
            raise Ended

    async def _store(self, record: Record, part: Part, pcm: bytes, *, bound: bool) -> None:
        tenant, job, n = record.tenant, record.job, part.n
        # Also for a bound part: a power cut may have taken samples that were put without a barrier.
        await self._blobs.put_once(objects.part_pcm(tenant, job, n, part.start, part.end, part.channel), pcm)
        if not bound and not await self._blobs.put_once(objects.part_meta(tenant, job, n), part.encode()):
            found = await self._blobs.get(objects.part_meta(tenant, job, n))
            if found is not None and Part.model_validate_json(found) != part:
                raise Diverged

    async def offer(self, record: Record, manifest: Manifest, part: Part) -> None:
        if record.bits >> part.n & 1:
            return
        work = PartWork(
            job=record.job,
            tenant=record.tenant,
            n=part.n,
            seconds=part.seconds,
            options=manifest.options,
            language=record.language,
        )
        unit = subjects.part(record.lane, record.tenant, record.job, part.n)
        await self._bus.offer(unit, work, record.traceparent)

    async def reserve(self, record: Record, seconds: float) -> None:
        ask = auth.Reserve(tenant=record.tenant, job=record.job, seconds=seconds)
        granted = await self._bus.request(subjects.KEYS_RESERVE, ask, auth.Granted)
        if not granted.ok:
            raise OverQuota(granted.detail)
