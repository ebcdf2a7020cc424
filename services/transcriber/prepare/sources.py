"""What a prepare works from: the job's manifest and its recording, as they lie in the store."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.contracts import objects
from services.contracts.jobs import Manifest
from services.contracts.parts import JobWork
from services.runtime.blobs import Blobs
from services.runtime.records import Records
from services.transcriber.prepare.ranges import Ranges

SHORT = 4 << 20
"""Bytes up to which a recording is fetched whole, and at once; a longer one is decoded while it is fetched."""


class Lost(Exception):  # noqa: N818 - what happened
    """What the job needs is not in the store any more, and nothing that we have makes it again."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What was read of a job before its prepare began: its manifest, and a short recording's bytes."""

    manifest: Manifest | None
    recording: bytes | None


class Sources:
    """Reads jobs from the store."""

    def __init__(self, blobs: Blobs, records: Records) -> None:
        self._blobs = blobs
        self._records = records

    async def bring(self, work: JobWork) -> Brought:
        """Read what there is; nothing of it need be there."""
        manifest = self._records.manifest(work.tenant, work.job)
        if work.size > SHORT:
            return Brought(await manifest, None)
        source = self._blobs.get(objects.source(work.tenant, work.job))
        return Brought(*await asyncio.gather(manifest, source))

    @asynccontextmanager
    async def opened(self, manifest: Manifest, brought: bytes | None) -> AsyncIterator[int | Ranges]:
        """The recording as a decoder reads it: a nameless file in memory, or what hands it out by ranges.

        Raises `Lost` when it is not there.
        """
        key = objects.source(manifest.tenant, manifest.job)
        if brought is None and manifest.size > SHORT:
            found = await self._blobs.stat(key)
            if found is None:
                raise Lost("The recording is not stored any more.")
            yield Ranges(lambda offset, length: self._blobs.slice(key, offset, length), found.size)
            return
        if brought is None:
            raise Lost("The recording is not stored any more.")
        fd = os.memfd_create("source")
        try:
            view = memoryview(brought)  # a copy in memory: quicker than a thread
            while view:
                view = view[os.write(fd, view) :]
            yield fd
        finally:
            os.close(fd)
