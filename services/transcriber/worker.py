"""Transcribe one part: its windows go to the engine in batches, its words to the store, its bit to the record.

The order is the protocol: words, then their event, then the bit, then (whoever completes the set) the transcript,
then the acknowledgement. Every step may be repeated, by this engine or by another.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.contracts import objects, subjects
from services.contracts.errors import Code
from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Failure, Options, State
from services.contracts.parts import SAMPLE_RATE, JobWork, Part, PartWords, PartWork
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.records import JobGone, Records
from services.transcriber import attempts
from services.transcriber.assemble import Assembler, merge
from services.transcriber.engine.batcher import batches_of
from services.transcriber.engine.protocol import (
    Engine,
    EngineDied,
    EngineFailed,
    ModelAway,
    Task,
    Window,
    WindowResult,
)
from services.transcriber.engine.windows import windows_of
from services.transcriber.fresh import Fresh
from services.transcriber.hands import ChildDied
from services.transcriber.rate import Rate
from services.transcriber.recent import Recent
from services.transcriber.slots import Rank, Slots

BUDGET = 60.0
"""Seconds of engine time that a batch may take besides three times what its length makes us expect."""


class SamplesMissing(Exception):  # noqa: N818 - what happened
    """A part's samples are gone or damaged (a power cut): they must be made again from the source."""


@dataclass(frozen=True, slots=True)
class _Heard:
    language: str | None
    probability: float | None
    results: Sequence[WindowResult]


class PartWorker:
    """Does parts, several at a time: the slots decide whose batch is next."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        records: Records,
        assembler: Assembler,
        engine: Engine,
        slots: Slots,
        rate: Rate,
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
        self._engine = engine
        self._slots = slots
        self._rate = rate
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
            part, words = await asyncio.gather(self._part(work), self._stored(work))
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

    async def _part(self, work: PartWork) -> Part | None:
        data = await self._blobs.get(objects.part_meta(work.tenant, work.job, work.n))
        return Part.model_validate_json(data) if data else None

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
        windows = await self._cut_windows(work, part, pcm)
        alone = attempts.alone(record, attempts.part_name(work.n), max_crashes=self._max_crashes)
        try:
            heard = await self._windows(work, record, windows, rank, alone, queued)
        finally:
            self._slots.leave(rank)
        segments = tuple(segment for result in heard.results for segment in result.segments)
        words = PartWords(
            n=part.n,
            channels=part.channels,
            language=heard.language,
            language_probability=heard.probability,
            segments=segments,
            transcribed=merge((result.start, result.end) for result in heard.results if not result.failed),
            failed=merge((result.start, result.end) for result in heard.results if result.failed),
            suspect=merge((segment.start, segment.end) for segment in segments if segment.suspect),
        )
        key, data = objects.words(work.tenant, work.job, work.n), words.encode()
        if await self._blobs.put_once(key, data):
            self._recent.keep(key, data)
            return words
        return await self._stored(work) or words

    async def _cut_windows(self, work: PartWork, part: Part, pcm: bytes | None = None) -> list[Window]:
        key = objects.part_pcm(work.tenant, work.job, part.n, part.start, part.end, part.channel)
        pcm = pcm if pcm is not None else await self._blobs.get(key)
        if pcm is not None and hashlib.sha256(pcm).hexdigest() != part.sha256:
            await self._blobs.delete([key])  # what is there would not be written again
            pcm = None
        if pcm is None:
            raise SamplesMissing
        return windows_of(pcm, part.start / SAMPLE_RATE, part.speech, vad=work.options.vad)

    async def _language(
        self, work: PartWork, record: Record, windows: Sequence[Window], rank: Rank, alone: bool
    ) -> tuple[str | None, float | None]:
        """The recording's language and how sure that is: as asked for, or as heard in the first part.

        Whichever part comes first asks, and always about the first part: who did what must not change a transcript.
        """
        language = record.language or work.language
        if language is not None:
            return language, record.language_probability
        first = await self._part(work.model_copy(update={"n": 0})) if work.n else None
        if first is not None:
            windows = await self._cut_windows(work, first)
        if not windows:
            return None, None
        async with self._slots.slot(rank, alone=alone):
            language, probability = await self._engine.detect_language(
                windows, work.options.model, budget=BUDGET, urgent=rank[0] == 0
            )
        heard = {"language": language, "language_probability": probability}
        settled = await self._records.change(
            work.tenant, work.job, lambda r: None if r.language else r.model_copy(update=heard)
        )
        return settled.language, settled.language_probability

    async def _windows(
        self,
        work: PartWork,
        record: Record,
        windows: Sequence[Window],
        rank: Rank,
        alone: bool,
        queued: Callable[[], None],
    ) -> _Heard:
        """All windows of a part, in order; their batches run beside one another as the slots allow."""
        language, probability = await self._language(work, record, windows, rank, alone)
        task = engine_task(work.options, language, work.job, work.n)

        async def batch(members: Sequence[int]) -> list[tuple[int, WindowResult]]:
            mine = [windows[index] for index in members]
            seconds = sum(window.seconds for window in mine)
            async with self._slots.slot(rank, alone=alone):
                with self._rate.measuring(seconds):
                    budget = BUDGET + 3 * seconds / self._rate.per_slot
                    results = await self._engine.transcribe(mine, task, budget=budget, urgent=rank[0] == 0)
            return list(zip(members, results, strict=True))

        batches = batches_of(windows, early=record.bits == 0 and work.n == 0)
        running = [asyncio.create_task(batch(members), name=f"batch {work.job}") for members in batches]
        try:
            await asyncio.sleep(0)  # every batch has asked for its slot
            queued()
            found = dict(item for results in await asyncio.gather(*running) for item in results)
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return _Heard(language, probability, [found[index] for index in sorted(found)])

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


def engine_task(options: Options, language: str | None, job: str, n: int) -> Task:
    """How the engine hears a part; the seed makes a repeat of the same part draw the same samples."""
    return Task(
        model=options.model,
        language=language,
        task=options.task,
        prompt=options.prompt,
        hotwords=options.hotwords,
        temperature=options.temperature,
        beam_size=options.beam_size,
        word_timestamps=options.word_timestamps,
        suppress_tokens=options.suppress_tokens,
        hallucination_silence_threshold=options.hallucination_silence_threshold,
        seed=int.from_bytes(hashlib.sha256(f"{job}/{n}".encode()).digest()[:4], "big"),
    )
