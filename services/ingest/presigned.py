"""Uploads straight to the store: a client asks for URLs, puts its recording there, and makes a job of it.

What it puts lies apart, under `uploads/<tenant>/<upload>/`, until it becomes a job's `source`. The URLs bind the length
of what they take, and work for an hour at most. Bytes count against the quota from the asking on; what is not used is
removed by the sweep within a day.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field

from services.contracts import objects
from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_upload_id, job_time, new_upload_id
from services.contracts.jobs import Frozen, Options
from services.ingest.admission import Admission, Admitted
from services.ingest.asked import Ask, Asked
from services.ingest.quota import Quota
from services.ingest.signing import Presigner
from services.ingest.uploads import too_large
from services.runtime.blobs import Blobs
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger

LARGEST_PUT = 5 << 30
"""Bytes that S3 takes in one PUT."""
SMALLEST_PART = 5 << 20
"""Bytes that every part but the last must have (S3)."""
MOST_PARTS = 1000
"""Parts of one upload: as many as S3 lists at once."""


class Terms(Frozen):
    """`upload.json`: what was agreed of an upload."""

    size: int
    sha256: str | None = None
    name: str | None = Field(default=None, description="the client's file name; never logged")
    multipart: str | None = Field(default=None, description="the store's id of an upload in parts")
    part_size: int = Field(description="bytes of every part but the last")

    @property
    def parts(self) -> list[int]:
        """The bytes of each part."""
        whole, rest = divmod(self.size, self.part_size)
        return [self.part_size] * whole + ([rest] if rest else [])


@dataclass(frozen=True, slots=True)
class Slot:
    """One part to be put: number from 1, bytes, and the URL that takes them."""

    number: int
    size: int
    url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """An upload that may begin. `expires` and `until` are Unix seconds: of the URLs, and of the upload itself."""

    upload: str
    terms: Terms
    slots: list[Slot]
    headers: dict[str, str]
    expires: float
    until: float


class Presigned:
    """Offers uploads and makes jobs of them. `kept`: seconds after which an upload is no more."""

    def __init__(
        self,
        quota: Quota,
        blobs: Blobs,
        admission: Admission,
        presigner: Presigner,
        *,
        max_upload: int,
        expires: int,
        kept: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quota = quota
        self._blobs = blobs
        self._admission = admission
        self._presigner = presigner
        self._max_upload = max_upload
        self._expires = expires
        self._kept = kept
        self._clock = clock
        self._log = get_logger()

    async def offer(
        self,
        who: Claims,
        size: int,
        *,
        sha256: str | None = None,
        name: str | None = None,
        content_type: str | None = None,
        part_size: int | None = None,
        expires: int | None = None,
    ) -> Offer:
        """URLs for a recording of `size` bytes: one, or one for each `part_size` bytes.

        With a `content_type` the URLs take no other. Raises `Problem` TOO_LARGE, MALFORMED, or that of the quota.
        """
        if size > self._max_upload:
            raise too_large(self._max_upload)
        if part_size is None and size > LARGEST_PUT:
            part_size = math.ceil(size / MOST_PARTS)
        if part_size is not None and (part_size < SMALLEST_PART or math.ceil(size / part_size) > MOST_PARTS):
            raise Problem(Code.MALFORMED, f"`part_size`: at least {SMALLEST_PART}, and at most {MOST_PARTS} parts.")
        upload, tenant = new_upload_id(), who.tenant
        key = objects.upload_data(tenant, upload)
        try:
            await self._quota.take(who, upload, size)  # which may be done though no answer came in time
            multipart = await self._blobs.begin_parts(key) if part_size is not None else None
            terms = Terms(size=size, sha256=sha256, name=name, multipart=multipart, part_size=part_size or size)
            await self._blobs.put_once(objects.upload_terms(tenant, upload), terms.encode())
        except BaseException:
            # The sweep finds what lies in the store, and of this nothing may.
            await self._quota.release_if_can(tenant, upload)
            raise
        now, lasts = self._clock(), min(expires or self._expires, self._expires)
        headers = {"Content-Type": content_type} if content_type else {}

        def url(number: int, length: int) -> str:
            return self._presigner.put(
                key,
                now=datetime.fromtimestamp(now, UTC),
                expires=lasts,
                headers=headers | {"Content-Length": str(length)},
                query={"partNumber": str(number), "uploadId": multipart} if multipart else {},
            )

        slots = [Slot(number, length, url(number, length)) for number, length in enumerate(terms.parts, 1)]
        return Offer(upload, terms, slots, headers, now + lasts, job_time(upload) + self._kept)

    async def use(self, who: Claims, upload: str, options: Options | Asked | Ask) -> Admitted:
        """Make a job of an upload that is there; the same upload again is the same job.

        Raises `Problem` UPLOAD_NOT_FOUND, UPLOAD_INCOMPLETE, UPLOAD_USED, LENGTH_MISMATCH, CHECKSUM, and as admission.
        """
        terms = await self._terms(who.tenant, upload)
        if terms is None:
            # Used before, it may be: then all that is left of it is its claim.
            repeat = await self._admission.placed_before(who, upload, options)
            if repeat is None:
                raise Problem(Code.UPLOAD_NOT_FOUND)
            return repeat
        data = objects.upload_data(who.tenant, upload)

        async def place(key: str) -> None:
            if terms.multipart is not None:
                await self._blobs.join_parts(data, terms.multipart, terms.parts)
            stat = await self._blobs.stat(data)
            if stat is None:
                raise Problem(Code.UPLOAD_INCOMPLETE)
            if stat.size != terms.size:
                raise Problem(Code.LENGTH_MISMATCH, f"{stat.size} of {terms.size} bytes are there.")
            await self._blobs.copy(data, key)

        # The job counts these bytes itself from here on.
        await self._quota.release(who.tenant, upload)
        try:
            admitted = await self._admission.placed(
                who,
                place,
                own_id=upload,
                length=terms.size,
                sha256=terms.sha256,
                name=terms.name,
                options=options,
            )
        except BaseException:
            await self._count_again(who, upload, terms.size)
            raise
        await self._blobs.delete([data, objects.upload_terms(who.tenant, upload)])
        await self._quota.release(who.tenant, upload)
        return admitted

    async def _terms(self, tenant: str, upload: str) -> Terms | None:
        if not is_upload_id(upload) or self._clock() > job_time(upload) + self._kept:
            return None
        found = await self._blobs.get(objects.upload_terms(tenant, upload))
        return Terms.model_validate_json(found) if found is not None else None

    async def _count_again(self, who: Claims, upload: str, size: int) -> None:
        """The bytes are nobody's job, if they are still there: best effort, the sweep removes them in any case."""
        try:
            await self._quota.take(who, upload, size)
            # In this order: who makes a job of the upload meanwhile deletes first, and releases then.
            if await self._blobs.stat(objects.upload_terms(who.tenant, upload)) is None:
                await self._quota.release(who.tenant, upload)
        except (Problem, Unavailable) as error:
            self._log.warning("an upload is not counted", tenant=who.tenant, error=type(error).__name__)
