"""Assembly: every part's words become the transcript, and the transcript the outcome.

`assemble` is a pure function of `job.json`, `plan.json` and `words/*`: no clock, no host name, equal bytes whoever
does it and however often.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence

from services.contracts import objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Failure, Manifest, Outcome, State
from services.contracts.parts import PartWords, PartWork, Plan
from services.contracts.stitching import stitch
from services.contracts.transcript import Channel, Coverage, Ranges, Segment, Span, Transcript
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.records import Records
from services.transcriber.meters import Meters
from services.transcriber.recent import Recent


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Ranges sorted and joined where they touch or overlap; seconds, rounded to the millisecond."""
    merged: list[list[float]] = []
    for start, end in sorted((round(a, 3), round(b, 3)) for a, b in spans if b > a):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return tuple((start, end) for start, end in merged)


def without(spans: Iterable[Span], taken: Sequence[Span]) -> tuple[Span, ...]:
    """`spans` less what lies in `taken` (both merged and sorted)."""
    left: list[Span] = []
    for start, end in spans:
        at = start
        for a, b in taken:
            if b <= at or a >= end:
                continue
            if a > at:
                left.append((at, a))
            at = max(at, b)
        if at < end:
            left.append((at, end))
    return merge(left)


def measure(spans: Iterable[Span]) -> Ranges:
    """Ranges with their length."""
    ranges = tuple(spans)
    return Ranges(seconds=round(sum(b - a for a, b in ranges), 3), ranges=ranges)


def _begins(part: PartWords) -> float:
    return min((start for start, _ in (*part.transcribed, *part.failed)), default=0.0)


def assemble(manifest: Manifest, plan: Plan, parts: Sequence[PartWords]) -> Transcript:
    """The transcript of these parts, which must be all of the plan's."""
    parts = sorted(parts, key=lambda part: (part.segments[0].start if part.segments else 0.0, part.n))
    channels = _channels(manifest, plan, parts) if plan.channels else None
    segments = _in_time(plan.channels, parts) if plan.channels else stitch(parts)
    language = manifest.options.language or next((part.language for part in parts if part.language), None)
    return Transcript(
        job=manifest.job,
        model=manifest.options.model,
        task=manifest.options.task,
        language=language,
        language_probability=next((part.language_probability for part in parts if part.language_probability), None),
        duration=round(plan.duration, 3),
        text="".join(segment.text for segment in segments).strip(),
        segments=segments,
        coverage=cover(plan, parts),
        channels=channels,
    )


def cover(plan: Plan, parts: Sequence[PartWords]) -> Coverage:
    """What became of every second of the recording in these parts.

    Of several channels: what failed in one of them counts as failed, and what was heard in any as heard.
    """
    failed = merge(span for part in parts for span in part.failed)
    transcribed = without(merge(span for part in parts for span in part.transcribed), failed)
    non_speech = without([(0.0, round(plan.duration, 3))], merge([*transcribed, *failed]))
    return Coverage(
        decoded=round(plan.duration, 3),
        transcribed=measure(transcribed).seconds,
        non_speech=measure(non_speech),
        failed=measure(failed),
        suspect=measure(merge(span for part in parts for span in part.suspect)),
        truncated=plan.truncated,
    )


def _of(channel: int, parts: Sequence[PartWords]) -> list[PartWords]:
    return [part for part in parts if channel in (part.channels or (0,))]


def _in_time(groups: Sequence[tuple[int, ...]], parts: Sequence[PartWords]) -> tuple[Segment, ...]:
    """The segments of all channels, each stitched by itself, by the time at which they begin."""
    found = (
        segment.model_copy(update={"channel": group[0]}) for group in groups for segment in stitch(_of(group[0], parts))
    )
    return tuple(sorted(found, key=lambda segment: (segment.start, segment.channel)))


def _channels(manifest: Manifest, plan: Plan, parts: Sequence[PartWords]) -> tuple[Channel, ...]:
    """What there is to say of each channel. One that holds the same as another is told there, and costs nothing."""
    groups = {channel: group for group in plan.channels or () for channel in group}
    own = {part.channels[0] for part in parts if part.channels} or {0}
    asked = manifest.options.channel_labels or ()
    usual = ("left", "right") if len(groups) == 2 else tuple(f"channel {n}" for n in range(len(groups)))
    found: list[Channel] = []
    for index, group in sorted(groups.items()):
        mine, is_first = _of(index, parts), index == group[0]
        found.append(
            Channel(
                index=index,
                label=asked[index] if index < len(asked) else usual[index],
                same_as=None if is_first else group[0],
                language=manifest.options.language or next((part.language for part in mine if part.language), None),
                seconds=round(plan.duration, 3) if is_first and index in own else 0.0,
                coverage=cover(plan, mine),
            )
        )
    return tuple(found)


class Assembler:
    """Ends jobs: with a transcript, or with a failure."""

    def __init__(self, bus: Bus, blobs: Blobs, records: Records, recent: Recent, meters: Meters) -> None:
        self._meters = meters
        self._recent = recent
        self._bus = bus
        self._blobs = blobs
        self._records = records

    async def complete(self, record: Record) -> None:
        """Assemble a job that is sealed and whose every part is done. Repeating it is harmless.

        Words that are missing although their bit is set (a power cut can take what had no barrier) undo their part,
        which is then done again, whatever the record says.
        """
        tenant, job = record.tenant, record.job
        keys = [objects.words(tenant, job, n) for n in range(record.parts)]
        keys += [objects.plan(tenant, job), objects.manifest(tenant, job)]
        current, (*found, sealed, asked) = await asyncio.gather(
            self._records.get(tenant, job), asyncio.gather(*map(self._known, keys))
        )
        if asked is None or sealed is None or (current is not None and current.state.terminal):
            return  # ended or erased meanwhile; the outcome says so
        manifest = Manifest.model_validate_json(asked)
        plan = Plan.model_validate_json(sealed)
        if (plan.parts, plan.duration) != (record.parts, record.duration):  # sealed anew meanwhile
            plan = Plan.model_validate_json(await self._blobs.get(objects.plan(tenant, job)) or sealed)
        missing = [n for n, data in enumerate(found) if data is None]
        if missing:
            await self._undo(record, manifest, missing)
            return
        # By time: a part that a power cut took, and that was cut again, may have a number out of its order.
        parts = sorted((PartWords.model_validate_json(data) for data in found if data is not None), key=_begins)
        transcript = assemble(manifest, plan, parts)
        data = transcript.encode()
        key = objects.transcript(tenant, job)
        if not await self._blobs.put_once(key, data):
            data = await self._blobs.get(key) or data
        # The outcome names the transcript: it must not reach the disk before the transcript does.
        await self._blobs.durable()
        outcome = Outcome(
            job=job,
            state=State.COMPLETED,
            sha256=hashlib.sha256(data).hexdigest(),
            seconds=plan.duration if transcript.channels is None else transcript.charged,
            duration=plan.duration,
            language=transcript.language,
            timings=(current or record).timings.model_copy(update={"finished": time.time()}),
        )
        self._count(await self._records.finish(outcome, tenant))

    async def _known(self, key: str) -> bytes | None:
        """An object that is written once: as this process wrote or read it just now, or from the store."""
        return self._recent.take(key) or await self._blobs.get(key)

    def _count(self, outcome: Outcome) -> None:
        self._meters.jobs.labels(outcome.state).inc()

    async def _undo(self, record: Record, manifest: Manifest, missing: list[int]) -> None:
        get_logger().error("words are missing; their parts are done again", job=record.job, count=len(missing))
        metas = await self._records.parts(record.tenant, record.job)
        lost = sum(1 << n for n in missing)

        def change(current: Record) -> Record:
            done = current.bits & ~lost
            seconds = sum(meta.seconds for n, meta in metas.items() if done >> n & 1)
            return current.model_copy(update={"done": format(done, "x"), "audio_done": seconds})

        await self._records.change(record.tenant, record.job, change)
        for n in missing:
            work = PartWork(
                job=record.job,
                tenant=record.tenant,
                n=n,
                seconds=metas[n].seconds if n in metas else 1.0,
                options=manifest.options,
                language=record.language,
            )
            await self._bus.offer(subjects.part(record.lane, record.tenant, record.job, n), work, record.traceparent)

    async def fail(self, record: Record, failure: Failure, *, ours: bool) -> None:
        """End a job with a failure. Those that are our fault are kept for the operator, and cost nobody anything."""
        outcome = Outcome(
            job=record.job,
            state=State.FAILED,
            failure=failure,
            seconds=0.0,
            duration=record.duration or None,
            timings=record.timings.model_copy(update={"finished": time.time()}),
        )
        if ours:
            # Before the end: who finds a job that has ended leaves it alone, and the operator would never hear of it.
            await self._bus.publish(subjects.dead(record.tenant, record.job), outcome, record.traceparent)
        settled = await self._records.finish(outcome, record.tenant)
        self._count(settled)
        if ours and settled != outcome and settled.state is State.FAILED:
            await self._bus.publish(subjects.dead(record.tenant, record.job), settled, record.traceparent)
