"""Hears one part: its samples become windows, its windows go to the engine in batches as the slots allow."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.contracts import objects
from services.contracts.events import Record
from services.contracts.jobs import Options
from services.contracts.parts import SAMPLE_RATE, Part, PartWords, PartWork
from services.runtime.blobs import Blobs
from services.runtime.records import Records
from services.transcriber import attempts
from services.transcriber.assemble import merge
from services.transcriber.engine.batcher import batches_of
from services.transcriber.engine.protocol import Engine, Task, Window, WindowResult
from services.transcriber.engine.windows import windows_of
from services.transcriber.rate import Rate
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


class PartEar:
    """Hears any number of parts beside one another; writes nothing but the language that it heard first."""

    def __init__(
        self, blobs: Blobs, records: Records, engine: Engine, slots: Slots, rate: Rate, *, max_crashes: int
    ) -> None:
        self._blobs = blobs
        self._records = records
        self._engine = engine
        self._slots = slots
        self._rate = rate
        self._max_crashes = max_crashes

    async def part(self, work: PartWork) -> Part | None:
        """Where the part lies in its recording, as prepare cut it; None when it is not stored."""
        data = await self._blobs.get(objects.part_meta(work.tenant, work.job, work.n))
        return Part.model_validate_json(data) if data else None

    async def hear(
        self,
        work: PartWork,
        part: Part,
        pcm: bytes | None,
        record: Record,
        rank: Rank,
        queued: Callable[[], None],
    ) -> PartWords:
        """The words of a part, from its samples where they are at hand (s16le, 16 kHz, mono), else from the store.

        Calls `queued` when its batches wait for the engine. Raises SamplesMissing, EngineDied and EngineFailed.
        """
        windows = await self._cut_windows(work, part, pcm)
        alone = attempts.alone(record, attempts.part_name(work.n), max_crashes=self._max_crashes)
        try:
            heard = await self._windows(work, record, windows, rank, alone, queued)
        finally:
            self._slots.leave(rank)
        segments = tuple(segment for result in heard.results for segment in result.segments)
        return PartWords(
            n=part.n,
            channels=part.channels,
            language=heard.language,
            language_probability=heard.probability,
            segments=segments,
            transcribed=merge((result.start, result.end) for result in heard.results if not result.failed),
            failed=merge((result.start, result.end) for result in heard.results if result.failed),
            suspect=merge((segment.start, segment.end) for segment in segments if segment.suspect),
        )

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
        first = await self.part(work.model_copy(update={"n": 0})) if work.n else None
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
