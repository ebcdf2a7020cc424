"""Prepare: a job becomes parts. Fetch, decode in the sandbox, cut at silences, publish each part as it is cut, seal.

Every step may be repeated: what an earlier prepare cut is binding, objects are written once, a part that is queued or
in hand is not queued again, and the seal is one compare-and-set.
"""

import asyncio
import hashlib
from collections.abc import Callable
from itertools import count

from services.contracts import auth, objects, subjects
from services.contracts.errors import Code
from services.contracts.events import Record
from services.contracts.jobs import Failure, Manifest, State
from services.contracts.parts import SAMPLE_RATE, JobWork, Part, PartWork, Plan
from services.runtime.blobs import Blobs, Missing
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.records import JobGone, Records
from services.transcriber import attempts
from services.transcriber.assemble import Assembler
from services.transcriber.fresh import Fresh
from services.transcriber.prepare.channels import Channels
from services.transcriber.prepare.cut import Cut, Cutter
from services.transcriber.prepare.media import DecoderDied, MediaError, MediaInfo
from services.transcriber.prepare.peaks import Peaks, louder
from services.transcriber.prepare.sandbox import Sandbox
from services.transcriber.prepare.sources import Brought, Lost, Sources


class Diverged(Exception):  # noqa: N818 - what happened, not a fault
    """Another prepare of the same job has cut this part elsewhere: its cut is binding, so we begin again with it."""


class OverQuota(Exception):  # noqa: N818
    """The tenant's seconds are used up: nothing more is published."""

    def __init__(self, detail: str | None) -> None:
        super().__init__(detail)
        self.detail = detail


class Ended(Exception):  # noqa: N818
    """The job was cancelled or ended meanwhile."""


class Preparer:
    """Prepares one job at a time per call; holds nothing between calls."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        records: Records,
        assembler: Assembler,
        sandbox: Sandbox,
        sources: Sources,
        fresh: Fresh,
        cutter: Callable[[bool, tuple[tuple[int, int, int], ...]], Cutter],
        *,
        max_crashes: int,
        max_starts: int,
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._assembler = assembler
        self._sandbox = sandbox
        self._sources = sources
        self._fresh = fresh
        self._cutter = cutter
        self._max_crashes = max_crashes
        self._max_starts = max_starts

    async def prepare(self, work: JobWork) -> None:
        """Bring a job as far as its parts are published and sealed; returns when its message may be acknowledged.

        Raises `Unavailable` when the bus, the store or keys are away: the unit is given back, and nothing counted.
        """
        tenant, job = work.tenant, work.job
        # Read while the start is counted; nothing is done with it before that.
        bringing = asyncio.create_task(self._sources.bring(work), name=f"bring {job}")
        try:
            record = await self._records.change(tenant, job, self._begin)
            if record.state.terminal:
                # Whoever ended it, or prepared it meanwhile, may have died before its samples were gone.
                await self._records.drop_samples(tenant, job)
                return
            async with attempts.uncounted_while_away(self._records, tenant, job, attempts.PREPARE):
                await self._go_on(record, bringing)
        except JobGone:
            return
        finally:
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)

    async def _go_on(self, record: Record, bringing: asyncio.Task[Brought]) -> None:
        tenant, job = record.tenant, record.job
        failure = attempts.verdict(record, attempts.PREPARE, max_crashes=self._max_crashes, max_starts=self._max_starts)
        if failure is not None:
            await self._assembler.fail(record, failure, ours=True)
            return
        if record.complete:
            await self._assembler.complete(record)
            return
        try:
            await self._cut_and_seal(record, await bringing)
        except MediaError as error:
            await self._assembler.fail(record, Failure(code=error.code, message=str(error)), ours=False)
        except OverQuota as error:
            message = error.detail or "The quota is used up."
            await self._assembler.fail(record, Failure(code=Code.QUOTA, message=message, retryable=True), ours=False)
        except DecoderDied:
            get_logger().warning("a decoder died", job=job)
            await self._records.change(tenant, job, lambda r: attempts.crashed(r, attempts.PREPARE))
            raise
        except (Lost, Missing) as error:
            reason = str(error) if isinstance(error, Lost) else "The recording is not stored any more."
            get_logger().error("a job cannot be prepared", job=job, reason=reason)
            await self._assembler.fail(record, Failure(code=Code.INTERNAL, message=reason), ours=True)
        except (Ended, asyncio.CancelledError) as error:
            current = await self._records.get(tenant, job)
            if current is None or current.state.terminal:
                await self._records.drop_samples(tenant, job)
            if isinstance(error, asyncio.CancelledError):
                raise

    def _begin(self, record: Record) -> Record:
        return attempts.begun(record, attempts.PREPARE, State.PREPARING)

    async def _cut_and_seal(self, record: Record, brought: Brought) -> None:
        tenant, job, manifest = record.tenant, record.job, brought.manifest
        if manifest is None:
            raise Ended
        plan, bound = (None, {}) if _first(record) else await self._earlier(record, manifest)
        while plan is None:
            try:
                plan = await self._cut(record, manifest, brought, bound)
            except Diverged:
                get_logger().info("another prepare was faster; going on with its cuts", job=job)
                bound = await self._records.parts(tenant, job)
        sealed = Plan.model_validate_json(plan)
        if not await self._blobs.put_once(objects.plan(tenant, job), plan):
            sealed = Plan.model_validate_json(await self._blobs.get(objects.plan(tenant, job)) or plan)
        parts = {} if sealed.parts == record.parts else await self._records.parts(tenant, job)
        record = await self._records.change(tenant, job, lambda r: self._sealed(r, sealed, parts))
        if record.complete and not record.state.terminal:
            await self._assembler.complete(record)

    async def _earlier(self, record: Record, manifest: Manifest) -> tuple[bytes | None, dict[int, Part]]:
        """What an earlier prepare left: its seal, if it holds, and its parts, which are binding."""
        tenant, job = record.tenant, record.job
        plan = await self._blobs.get(objects.plan(tenant, job))
        bound = await self._records.parts(tenant, job)
        if plan is not None and len(bound) < Plan.model_validate_json(plan).parts:
            # A power cut took parts, which are put without a barrier, and left the seal.
            await self._blobs.delete([objects.plan(tenant, job)])
            plan = None
        if plan is not None:
            for part in bound.values():  # their messages may have been lost with the bus
                await self._offer(record, manifest, part)
        return plan, bound

    @staticmethod
    def _sealed(record: Record, plan: Plan, parts: dict[int, Part]) -> Record:
        audio = sum(part.seconds for part in parts.values()) if parts else record.audio
        update = {"parts": plan.parts, "sealed": True, "duration": plan.duration, "audio": audio}
        return attempts.ended_well(record.model_copy(update=update), attempts.PREPARE)

    async def _cut(self, record: Record, manifest: Manifest, brought: Brought, bound: dict[int, Part]) -> bytes:
        """Decode the whole source; each cut becomes a part. Returns the plan's bytes.

        A new cut takes the lowest number that is free, so that parts which a power cut took get theirs back.
        """
        separate, vad = manifest.options.channels == "separate", manifest.options.vad
        channels = Channels(lambda ranges: self._cutter(vad, ranges), bound.values())
        free = (n for n in count() if n not in bound)
        numbers, peaks, loudest = set(bound), Peaks(), b""
        heard: dict[int, float] = {}  # seconds up to the last cut, of each channel that has parts of its own

        async def publish(cuts: list[Cut]) -> None:
            for cut in cuts:
                part = channels.known(cut)
                n = part.n if part else next(free)
                numbers.add(n)
                heard[(part.of if part else cut.channels)[0]] = cut.end / SAMPLE_RATE
                await self._part(record, manifest, n, cut, part, sum(heard.values()))

        async with self._sources.opened(manifest, brought.recording) as source:
            decoding = self._sandbox.decode(source, separate=separate)
            async with decoding:
                async for block in decoding:
                    if 0 in block.channels:
                        peaks.feed(loudest)
                        loudest = block.pcm
                    else:
                        loudest = louder(loudest, block.pcm)
                    await publish(channels.feed(block))
                info: MediaInfo = decoding.info
                # Before the decoder's process is waited for: the engine can begin meanwhile.
                await publish(channels.close())
        peaks.feed(loudest)
        await self._blobs.put_once(objects.peaks(record.tenant, record.job), peaks.close())
        if len(numbers) <= max(numbers, default=-1):
            raise Lost("Parts of the recording were lost and could not be cut again.")
        duration = info.decoded_samples / SAMPLE_RATE
        await self._reserve(record, duration * max(1, len(heard)))
        plan = Plan(
            parts=len(numbers),
            duration=duration,
            truncated=info.truncated,
            vad=vad,
            channels=channels.groups if separate else None,
        )
        return plan.encode()

    async def _part(
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
            self._reserve(record, seconds),
            self._store(record, part, cut.pcm, bound=bound is not None),
            # Both are waited for: samples written after those of a job that has ended were dropped would stay.
            return_exceptions=True,
        )
        for one in both:
            if isinstance(one, BaseException):
                raise one
        self._fresh.keep(job, part, cut.pcm)
        await self._offer(record, manifest, part)

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

    async def _offer(self, record: Record, manifest: Manifest, part: Part) -> None:
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

    async def _reserve(self, record: Record, seconds: float) -> None:
        ask = auth.Reserve(tenant=record.tenant, job=record.job, seconds=seconds)
        granted = await self._bus.request(subjects.KEYS_RESERVE, ask, auth.Granted)
        if not granted.ok:
            raise OverQuota(granted.detail)


def _first(record: Record) -> bool:
    """Whether nobody has prepared this job before."""
    return attempts.first(record, attempts.PREPARE) and record.parts == 0 and not record.sealed
