"""Transcribe one part: its windows go to the engine in batches, its words to the store, its bit to the record.

The order is the protocol: words, then their event, then the bit, then (whoever completes the set) the transcript,
then the acknowledgement. Every step may be repeated, by this engine or by another.
"""

import asyncio
from collections.abc import Callable

from services.contracts import objects, subjects
from services.contracts.errors import Code
from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Failure, State
from services.contracts.parts import SAMPLE_RATE, JobWork, Part, PartWords, PartWork
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.records import JobGone, Records
from services.transcriber import attempts
from services.transcriber.assemble import Assembler
from services.transcriber.ear import PartEar, SamplesMissing
from services.transcriber.engine.protocol import EngineDied, EngineFailed, ModelAway
from services.transcriber.fresh import Fresh
from services.transcriber.hands import ChildDied
from services.transcriber.recent import Recent
from services.transcriber.slots import Rank


class PartWorker:
    """Does parts, several at a time: the slots decide whose batch is next."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        records: Records,
        assembler: Assembler,
        ear: PartEar,
        fresh: Fresh,
        recent: Recent,
        *,
        max_crashes: int,
        max_starts: int,
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._assembler = assembler
        self._ear = ear
        self._fresh = fresh
        self._recent = recent
        self._max_crashes = max_crashes
        self._max_starts = max_starts

    async def transcribe(self, work: PartWork, rank: Rank, queued: Callable[[], None]) -> None:
        """Bring a part to the point at which its message may be acknowledged.

        Calls `queued` when its batches wait for the engine, so that the next part can be fetched in good time.

        Raises `ChildDied` when the engine died on it (counted; try again), `Unavailable` when bus or store are away.
        """
        tenant, job, name = work.tenant, work.job, attempts.part_name(work.n)
        try:
            record = await self._records.change(tenant, job, lambda r: self._begin(r, work.n))
        except JobGone:
            return
        if record.state.terminal:
            # Whoever ended it may have died before its samples were gone.
            await self._records.drop_samples(tenant, job)
            return
        async with attempts.uncounted_while_away(self._records, tenant, job, name):
            await self._go_on(work, record, rank, queued)

    async def _go_on(self, work: PartWork, record: Record, rank: Rank, queued: Callable[[], None]) -> None:
        tenant, job, name = work.tenant, work.job, attempts.part_name(work.n)
        if record.bits >> work.n & 1:
            if record.complete:
                await self._assembler.complete(record)
            return
        verdict = attempts.verdict(record, name, max_crashes=self._max_crashes, max_starts=self._max_starts)
        if verdict is not None:
            await self._assembler.fail(record, verdict, ours=True)
            return
        fresh = self._fresh.take(job, work.n)
        part: Part | None
        pcm: bytes | None = None
        words: PartWords | None = None
        if fresh is not None and attempts.first(record, name):
            part, pcm = fresh
        else:
            part, words = await asyncio.gather(self._ear.part(work), self._stored(work))
        if part is None:
            return
        try:
            words = words or await self._hear(work, part, pcm, record, rank, queued)
        except EngineDied as error:
            get_logger().warning("the engine died on a part", job=job, n=work.n, cause=error.cause)
            blame = attempts.not_counted if error.innocent else attempts.crashed
            await self._records.change(tenant, job, lambda r: blame(r, name))
            raise ChildDied from error
        except EngineFailed as error:
            code = Code.MODEL_AWAY if isinstance(error, ModelAway) else Code.ENGINE
            await self._assembler.fail(record, Failure(code=code, message=str(error), retryable=True), ours=True)
            return
        except SamplesMissing:
            await self._prepare_again(record, name)
            return
        await self._commit(work, record, part, words)

    @staticmethod
    def _begin(record: Record, n: int) -> Record | None:
        if record.bits >> n & 1:
            return None
        return attempts.begun(record, attempts.part_name(n), State.RUNNING)

    async def _stored(self, work: PartWork) -> PartWords | None:
        """Words that an earlier try, or another engine, left: they are binding."""
        data = await self._blobs.get(objects.words(work.tenant, work.job, work.n))
        return PartWords.model_validate_json(data) if data else None

    async def _hear(
        self,
        work: PartWork,
        part: Part,
        pcm: bytes | None,
        record: Record,
        rank: Rank,
        queued: Callable[[], None],
    ) -> PartWords:
        words = await self._ear.hear(work, part, pcm, record, rank, queued)
        key, data = objects.words(work.tenant, work.job, work.n), words.encode()
        if await self._blobs.put_once(key, data):
            self._recent.keep(key, data)
            return words
        return await self._stored(work) or words

    async def _commit(self, work: PartWork, record: Record, part: Part, words: PartWords) -> None:
        tenant, job = work.tenant, work.job
        event = SegmentsEvent(
            job=job,
            part=work.n,
            start=part.start / SAMPLE_RATE,
            end=part.end / SAMPLE_RATE,
            channels=part.channels,
            segments=words.segments,
        )
        await self._bus.publish(subjects.segments(tenant, job), event, record.traceparent)

        def done(record: Record) -> Record | None:
            if record.bits >> work.n & 1:
                return None
            update = {"done": format(record.bits | 1 << work.n, "x"), "audio_done": record.audio_done + part.seconds}
            return attempts.ended_well(record.model_copy(update=update), attempts.part_name(work.n))

        record = await self._records.change(tenant, job, done)
        if record.complete and not record.state.terminal:
            await self._assembler.complete(record)

    async def _prepare_again(self, record: Record, name: str) -> None:
        """Have the samples made again from the source; the cuts that are stored stay binding.

        It counts as a crash, so that a source that decodes differently every time does not go round for ever.
        """
        tenant, job = record.tenant, record.job
        record = await self._records.change(tenant, job, lambda r: attempts.crashed(r, name))
        if record.state.terminal or await self._records.outcome(tenant, job) is not None:
            return  # they went because the job has ended
        get_logger().error("samples are missing; preparing again", job=job)
        await self._records.unseal(tenant, job)
        work = JobWork(job=job, tenant=tenant, size=record.size, model=record.model)
        await self._bus.offer(subjects.job(record.lane, tenant, job), work, record.traceparent)
