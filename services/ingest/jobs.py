"""What a tenant does with its jobs: look, list, read, hear, cancel, erase. Another tenant's job is no job at all."""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any

from services.contracts import objects, subjects
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.ids import is_job_id, job_id_from
from services.contracts.jobs import Door, Manifest, Outcome, State
from services.contracts.parts import PartWords
from services.contracts.transcript import Transcript
from services.ingest import history, media
from services.ingest.erase import Eraser
from services.ingest.views import UNLABELLED, Label
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, read_last
from services.runtime.logs import get_logger
from services.runtime.records import RETENTION, Records

NEWEST = job_id_from((1 << 48) - 1, (1 << 80) - 1)
"""Sorts after every job id."""
REMEMBERED = 10_000
"""Jobs whose names, and recordings whose media types, are kept."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a tenant's jobs, newest first; `next` is the job to go on before, None at the end."""

    records: list[Record]
    next: str | None


class Audio:
    """A recording as it came in: `size` in bytes, the client's file name, its media type, and its bytes by range."""

    def __init__(self, blobs: Blobs, key: str, size: int, name: str | None, sha256: str, kind: str) -> None:
        self.size = size
        self.name = name
        self.sha256 = sha256
        self.kind = kind
        self._blobs = blobs
        self._key = key

    def read(self, offset: int = 0, length: int = 0) -> AsyncIterator[bytes]:
        """Bytes from `offset` on, in pieces; `length` 0 means to the end."""
        return self._blobs.read(self._key, offset=offset, length=length)


class Jobs:
    """Every method raises `Problem` JOB_NOT_FOUND, or `Unavailable` when the bus or the store is away."""

    def __init__(self, bus: Bus, blobs: Blobs, records: Records, eraser: Eraser) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._eraser = eraser
        self._kinds: OrderedDict[str, str] = OrderedDict()
        self._labels: OrderedDict[tuple[str, str], Label] = OrderedDict()
        self._log = get_logger()

    async def get(self, tenant: str, job: str) -> Record:
        """The job as it stands. One whose record is gone is read from its objects."""
        record = None
        if is_job_id(job):
            record = await self._records.get(tenant, job) or await self._records.rebuild(tenant, job)
        if record is None:
            raise Problem(Code.JOB_NOT_FOUND)
        return record

    async def manifest(self, tenant: str, job: str) -> Manifest:
        """What the job was asked to do. Raises `Problem` ERASED."""
        record = await self.get(tenant, job)
        found = await self._records.manifest(tenant, job)
        if found is None or record.state == State.ERASED:
            raise Problem(Code.ERASED)
        return found

    async def label(self, record: Record) -> Label:
        """What the job is called. It never changes, so that a list is read from the store once."""
        if record.state == State.ERASED:
            return UNLABELLED
        key = (record.tenant, record.job)
        label = self._labels.get(key)
        if label is None:
            manifest = await self._records.manifest(*key)
            if manifest is None:
                return UNLABELLED
            label = self._labels[key] = Label(manifest.name, manifest.source_of)
            _trim(self._labels)
        return label

    async def page(
        self, tenant: str, before: str | None = None, limit: int = 50, states: Collection[State] = ()
    ) -> Page:
        """Jobs older than the job `before`, newest first, at most `limit`, in one of `states` if any are given.

        What is younger than records are kept has one; what is older is found in the store. Raises `Problem` MALFORMED
        for a `before` that is no job id.
        """
        before = before or NEWEST
        if not is_job_id(before):
            raise Problem(Code.MALFORMED, "`before` must be the id of a job.")
        border = job_id_from(round((time.time() - RETENTION) * 1000), 0)
        found: list[Record] = []
        if before > border:
            recent = await self._records.page(tenant, before, limit + 1, states)
            found = [record for record in recent if record.job >= border]
        if len(found) <= limit:
            async for job in history.newest_first(self._blobs, tenant, min(before, border)):
                record = await self._records.get(tenant, job) or await self._records.view(tenant, job)
                if record is not None and (not states or record.state in states):
                    found.append(record)
                    if len(found) > limit:
                        break
        return Page(found[:limit], found[limit - 1].job if len(found) > limit else None)

    async def completed(self, tenant: str, job: str) -> Record:
        """A job with a transcript. Raises `Problem` NOT_FINISHED, FAILED (with `failure`), CANCELLED or ERASED."""
        return _completed(await self.get(tenant, job))

    async def transcript(self, tenant: str, job: str) -> Transcript:
        """The transcript, whose bytes are those that the outcome vouches for. Raises as `completed` does."""
        return await self.transcript_of(await self.get(tenant, job))

    async def transcript_of(self, record: Record) -> Transcript:
        """The same, for who has the record at hand."""
        tenant, job = record.tenant, record.job
        _completed(record)
        data = await self._blobs.get(objects.transcript(tenant, job))
        # A long one takes a tenth of a second to hash and to parse.
        transcript = await asyncio.to_thread(_read, data, record.sha256) if data is not None else None
        if transcript is None:
            self._log.error("a transcript is not what its outcome says", tenant=tenant, job=job)
            raise Problem(Code.INTERNAL)
        return transcript

    async def words(self, tenant: str, job: str, part: int) -> PartWords | None:
        """What was heard in one part, as soon as that is known; None before, and after an erasure."""
        data = await self._blobs.get(objects.words(tenant, job, part))
        return PartWords.model_validate_json(data) if data is not None else None

    async def audio(self, tenant: str, job: str) -> Audio:
        """The recording as it came in. Raises `Problem` ERASED, and those of `completed` where there is none yet."""
        manifest = await self.manifest(tenant, job)
        key = objects.source(tenant, job)
        stat = await self._blobs.stat(key)
        if stat is None:
            _completed(await self.get(tenant, job))  # that of a live session is there when it has ended with words
            raise Problem(Code.ERASED)
        return Audio(self._blobs, key, stat.size, manifest.name, manifest.sha256, await self._kind(key))

    async def peaks(self, tenant: str, job: str) -> bytes:
        """The waveform, `PEAKS_PER_SECOND` bytes a second. Raises `Problem` ERASED, NO_PEAKS."""
        record = await self.get(tenant, job)
        if record.state == State.ERASED:
            raise Problem(Code.ERASED)
        data = await self._blobs.get(objects.peaks(tenant, job))
        if not data:
            raise Problem(Code.NO_PEAKS)
        return data

    async def has_peaks(self, tenant: str, job: str) -> bool:
        """Whether there is a waveform."""
        return await self._blobs.stat(objects.peaks(tenant, job)) is not None

    async def _kind(self, key: str) -> str:
        """A recording's media type; a player asks for it at every seek, and it never changes."""
        kind = self._kinds.get(key)
        if kind is None:
            head = b"".join([piece async for piece in self._blobs.read(key, length=media.HEAD)])
            kind = self._kinds[key] = media.media_type(head)
            _trim(self._kinds)
        return kind

    async def cancel_or_erase(self, tenant: str, job: str) -> Record:
        """End a job that has not ended; remove the data of one that has. Returns the job as it then is.

        A job that finishes at the same moment stays finished: whoever writes the outcome first wins.
        """
        record = await self.get(tenant, job)
        if record.state.terminal:
            await self._eraser.erase(tenant, job)
            await self._tell(record)
        else:
            await self._cancel(record)
        return await self.get(tenant, job)

    async def _cancel(self, record: Record) -> None:
        seconds = record.audio_done
        if record.door == Door.LIVE:
            # What was heard of a session is known to its stream alone: the record learns of it at the end.
            said = await read_last(self._bus.nc, subjects.LIVE, subjects.live_out(record.job))
            seconds = max(seconds, float(json.loads(said.data)["position"])) if said else seconds
        wish = Outcome(
            job=record.job,
            state=State.CANCELLED,
            seconds=seconds,
            duration=record.duration or None,
            language=record.language,
            timings=record.timings.model_copy(update={"finished": time.time()}),
        )
        outcome = await self._records.finish(wish, record.tenant)
        if outcome.state == State.CANCELLED:
            await self._tell(record)

    async def _tell(self, record: Record) -> None:
        """A hint, so that engines stop, or forget, now; the outcome is what counts."""
        try:
            await self._bus.nc.publish(subjects.cancel(record.tenant, record.job))
        except AWAY as error:
            self._log.warning("engines were not told of a cancellation", error=type(error).__name__)


def _trim(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)


def _completed(record: Record) -> Record:
    match record.state:
        case State.COMPLETED:
            return record
        case State.ERASED:
            raise Problem(Code.ERASED)
        case State.CANCELLED:
            raise Problem(Code.CANCELLED)
        case State.FAILED:
            failure = record.failure
            if failure is None:
                raise Problem(Code.FAILED)
            raise Problem(Code.FAILED, failure.message, failure=failure.model_dump())
        case _:
            raise Problem(Code.NOT_FINISHED)


def _read(data: bytes, sha256: str | None) -> Transcript | None:
    """The transcript in these bytes, or None if they are not the ones that the sum was made of."""
    return Transcript.model_validate_json(data) if hashlib.sha256(data).hexdigest() == sha256 else None
