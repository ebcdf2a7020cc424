"""Prepare: a job becomes parts. Fetch, decode in the sandbox, cut at silences, publish each part as it is cut, seal.

Every step may be repeated: what an earlier prepare cut is binding, objects are written once, a part that is queued or
in hand is not queued again, and the seal is one compare-and-set.
"""

import asyncio
from collections.abc import Callable
from itertools import count

from services.contracts import objects
from services.contracts.errors import Code
from services.contracts.events import Record
from services.contracts.jobs import Failure, Manifest, State
from services.contracts.parts import SAMPLE_RATE, JobWork, Part, Plan
from services.runtime.blobs import Blobs
from services.runtime.logs import get_logger
from services.runtime.reading import Missing
from services.runtime.records import JobGone, Records
from services.transcriber import attempts
from services.transcriber.assemble import Assembler
from services.transcriber.prepare.channels import Channels
from services.transcriber.prepare.cut import Cut, Cutter
from services.transcriber.prepare.media import DecoderDied, MediaError, MediaInfo
from services.transcriber.prepare.peaks import Peaks, louder
from services.transcriber.prepare.publish import Diverged, Ended, OverQuota, Publisher
from services.transcriber.prepare.sandbox import Sandbox
from services.transcriber.prepare.sources import Brought, Lost, Sources
from services.transcriber.recent import Recent


class Preparer:
    """Prepares one job at a time per call; holds nothing between calls."""

    def __init__(
        self,
        blobs: Blobs,
        records: Records,
        assembler: Assembler,
        sandbox: Sandbox,
        sources: Sources,
        publisher: Publisher,
        recent: Recent,
        cutter: Callable[[bool, tuple[tuple[int, int, int], ...]], Cutter],
        *,
        max_crashes: int,
        max_starts: int,
    ) -> None:
        self._blobs = blobs
        self._records = records
        self._assembler = assembler
        self._sandbox = sandbox
        self._sources = sources
        self._publisher = publisher
        self._recent = recent
        self._cutter = cutter
        self._max_crashes = max_crashes
        self._max_starts = max_starts

    async def prepare(self, work: JobWork, decoded: Callable[[], None] = lambda: None) -> None:
        """Bring a job as far as its parts are published and sealed; returns when its message may be acknowledged.

        Calls `decoded` when nothing but the sealing is left, so that the next recording need not wait for that.

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
                await self._go_on(record, bringing, decoded)
        except JobGone:
            return
        finally:
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)

    async def _go_on(self, record: Record, bringing: asyncio.Task[Brought], decoded: Callable[[], None]) -> None:
        tenant, job = record.tenant, record.job
        failure = attempts.verdict(record, attempts.PREPARE, max_crashes=self._max_crashes, max_starts=self._max_starts)
        if failure is not None:
            await self._assembler.fail(record, failure, ours=True)
            return
        if record.complete:
            await self._assembler.complete(record)
            return
        try:
            await self._cut_and_seal(record, await bringing, decoded)
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

    async def _cut_and_seal(self, record: Record, brought: Brought, decoded: Callable[[], None]) -> None:
        tenant, job, manifest = record.tenant, record.job, brought.manifest
        if manifest is None:
            raise Ended
        plan, bound = (None, {}) if _first(record) else await self._earlier(record, manifest)
        alone = plan is None and not bound
        while plan is None:
            try:
                plan = await self._cut(record, manifest, brought, bound, decoded)
            except Diverged:
                get_logger().info("another prepare was faster; going on with its cuts", job=job)
                bound = await self._records.parts(tenant, job)
                alone = False
        sealed = Plan.model_validate_json(plan)
        if await self._blobs.put_once(objects.plan(tenant, job), plan):
            # Whoever does the last part will most likely be this process.
            self._recent.keep(objects.manifest(tenant, job), manifest.encode())
            self._recent.keep(objects.plan(tenant, job), plan)
        else:
            sealed = Plan.model_validate_json(await self._blobs.get(objects.plan(tenant, job)) or plan)
        # The record knows every part that was cut just now; after an earlier prepare the objects know better.
        if alone:
            record = await self._records.change(
                tenant, job, lambda r: self._sealed(r, sealed, {}) if r.parts == sealed.parts else None
            )
        if not record.sealed and not record.state.terminal:
            parts = await self._records.parts(tenant, job)
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
                await self._publisher.offer(record, manifest, part)
        return plan, bound

    @staticmethod
    def _sealed(record: Record, plan: Plan, parts: dict[int, Part]) -> Record:
        audio = sum(part.seconds for part in parts.values()) if parts else record.audio
        update = {"parts": plan.parts, "sealed": True, "duration": plan.duration, "audio": audio}
        return attempts.ended_well(record.model_copy(update=update), attempts.PREPARE)

    async def _cut(
        self,
        record: Record,
        manifest: Manifest,
        brought: Brought,
        bound: dict[int, Part],
        decoded: Callable[[], None],
    ) -> bytes:
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
                await self._publisher.publish(record, manifest, n, cut, part, sum(heard.values()))

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
        decoded()
        peaks.feed(loudest)
        await self._blobs.put_once(objects.peaks(record.tenant, record.job), peaks.close())
        if len(numbers) <= max(numbers, default=-1):
            raise Lost("Parts of the recording were lost and could not be cut again.")
        duration = info.decoded_samples / SAMPLE_RATE
        if (used := duration * max(1, len(heard))) != sum(heard.values()):
            await self._publisher.reserve(record, used)
        plan = Plan(
            parts=len(numbers),
            duration=duration,
            truncated=info.truncated,
            vad=vad,
            channels=channels.groups if separate else None,
        )
        return plan.encode()


def _first(record: Record) -> bool:
    """Whether nobody has prepared this job before."""
    return attempts.first(record, attempts.PREPARE) and record.parts == 0 and not record.sealed
