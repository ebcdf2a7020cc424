"""Corrected versions of transcripts. The transcript itself is version 0 and never changes.

A version is an object written once under the next number: of two people who correct the same version one is first, and
the other is told so. It holds what differs from the transcript, whatever it was made from.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.contracts import objects
from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.transcript import Transcript
from services.contracts.versions import Corrected, Version, corrected
from services.ingest import corrections
from services.ingest.corrections import Wanted
from services.ingest.jobs import Jobs
from services.ingest.uploads import too_large
from services.runtime.blobs import Blobs

MOST = 1000
"""Versions of one transcript."""
LARGEST = 16 << 20
"""Bytes of one version: more than ten hours of speech of which every word was corrected."""
MOST_TEXT = 200_000
"""Characters that are aligned with the words that are there, in one correction."""
LATEST = None
"""In place of a version's number."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What becomes of one segment: these words, or this text; one of the two."""

    index: int
    words: Sequence[Wanted] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A version in a list; `created` in Unix seconds."""

    version: int
    created: float


class Versions:
    """Every method raises `Problem` as `Jobs.completed` does, and `Unavailable`."""

    def __init__(self, blobs: Blobs, jobs: Jobs, clock: Callable[[], float] = time.time) -> None:
        self._blobs = blobs
        self._jobs = jobs
        self._clock = clock

    async def listed(self, tenant: str, job: str) -> list[Listed]:
        """Every version, 0 first."""
        record = await self._jobs.completed(tenant, job)
        found = [Listed(0, round(record.timings.finished or record.timings.accepted, 3))]
        folder = objects.versions(tenant, job)
        found += [
            Listed(int(stat.key.removeprefix(folder).split(".")[0]), stat.modified.timestamp())
            async for stat in self._blobs.list(folder)
        ]
        return found

    async def version(self, tenant: str, job: str, number: int) -> Version:
        """What was corrected in a version. Raises `Problem` VERSION_NOT_FOUND, also for 0."""
        await self._jobs.completed(tenant, job)
        return await self._read(tenant, job, number)

    async def transcript(self, tenant: str, job: str, number: int | None = LATEST) -> tuple[Transcript, int]:
        """The transcript in a version, and which one that is. Raises `Problem` VERSION_NOT_FOUND."""
        transcript = await self._jobs.transcript(tenant, job)
        number = await self._latest(tenant, job) if number is LATEST else number
        if not number:
            return transcript, 0
        version = await self._read(tenant, job, number)
        return await asyncio.to_thread(corrected, transcript, version.segments), number

    async def correct(
        self, who: Claims, job: str, base: int, edits: Sequence[Edit], note: str | None = None
    ) -> tuple[Version, bool]:
        """The version that these edits make of version `base`, and whether it is a new one.

        Raises `Problem` VERSION_CONFLICT (with `latest`) where `base` is not the latest, CORRECTION, TOO_MANY_VERSIONS,
        VERSION_NOT_FOUND, TOO_LARGE.
        """
        tenant = who.tenant
        transcript = await self._jobs.transcript(tenant, job)
        latest = await self._latest(tenant, job)
        if base > latest:
            raise Problem(Code.VERSION_NOT_FOUND)
        if base < latest:
            raise _conflict(latest)
        if base >= MOST:
            raise Problem(Code.TOO_MANY_VERSIONS, f"At most {MOST}.")
        earlier = await self._read(tenant, job, base) if base else None
        before = earlier.segments if earlier else ()
        segments = await asyncio.to_thread(_applied, transcript, before, edits)
        version = Version(
            version=base + 1,
            base=base,
            created=round(self._clock(), 3),
            by=who.key_id,
            note=note,
            segments=segments,
        )
        if segments == before:
            return earlier or version.model_copy(update={"version": 0}), False
        data = await asyncio.to_thread(version.encode)
        if len(data) > LARGEST:
            raise too_large(LARGEST)
        if not await self._blobs.put_once(objects.version(tenant, job, version.version), data):
            raise _conflict(await self._latest(tenant, job))
        await self._blobs.durable()
        return version, True

    async def _latest(self, tenant: str, job: str) -> int:
        folder, latest = objects.versions(tenant, job), 0
        async for stat in self._blobs.list(folder):
            latest = int(stat.key.removeprefix(folder).split(".")[0])
        return latest

    async def _read(self, tenant: str, job: str, number: int) -> Version:
        data = await self._blobs.get(objects.version(tenant, job, number)) if 0 < number <= MOST else None
        if data is None:
            raise Problem(Code.VERSION_NOT_FOUND)
        return await asyncio.to_thread(Version.model_validate_json, data)


def _conflict(latest: int) -> Problem:
    return Problem(Code.VERSION_CONFLICT, f"The latest version is {latest}.", latest=latest)


def _applied(transcript: Transcript, before: Sequence[Corrected], edits: Sequence[Edit]) -> tuple[Corrected, ...]:
    """What differs from the transcript after these edits of a version in which `before` differs."""
    now, heard = corrected(transcript, before).segments, transcript.segments
    found = {one.index: one for one in before}
    if len({edit.index for edit in edits}) < len(edits):
        raise Problem(Code.CORRECTION, "A segment is corrected twice.")
    if sum(len(edit.text or "") for edit in edits) > MOST_TEXT:
        raise Problem(Code.CORRECTION, f"More than {MOST_TEXT} characters of text; send `words`, or less at once.")
    for edit in edits:
        if not 0 <= edit.index < len(heard):
            raise Problem(Code.CORRECTION, f"There is no segment {edit.index}; there are {len(heard)}.")
        both = heard[edit.index], now[edit.index]
        if edit.words is not None:
            one = corrections.by_words(edit.index, *both, edit.words)
        else:
            one = corrections.by_text(edit.index, *both, edit.text or "")
        found[edit.index] = one
        if corrections.is_original(one, heard[edit.index]):
            del found[edit.index]
    return tuple(found[index] for index in sorted(found))
