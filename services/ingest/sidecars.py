"""What is written beside a dropped object at the end: its transcript in four formats, or what went wrong."""

import asyncio
import json
from weakref import WeakValueDictionary

from services.contracts import objects, subjects
from services.contracts.errors import ERRORS, Code, Problem
from services.contracts.events import Record
from services.contracts.formats import Format, render
from services.contracts.jobs import Door, Manifest, State
from services.contracts.transcript import Transcript
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.logs import get_logger
from services.runtime.records import Records
from services.runtime.states import StateEvents

ENDINGS = {".json": Format.JSON, ".srt": Format.SRT, ".vtt": Format.VTT, ".txt": Format.TEXT}
ERROR = ".error.json"
AT_ONCE = 4
"""Jobs whose sidecars are written at once: each waits for the store most of its time."""


class Sidecars:
    """Writes them, as often as it is asked to: the same each time.

    `originals`: what becomes of an object whose transcript is there: `keep`, `delete`, or `move` (to `done/`).
    """

    def __init__(self, blobs: Blobs, drop: Blobs, records: Records, *, originals: str) -> None:
        self._blobs = blobs
        self._drop = drop
        self._records = records
        self._originals = originals
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._log = get_logger()

    def consumer(self, bus: Bus) -> StateEvents:
        """The durable consumer that writes them for every job that has ended."""
        return StateEvents(bus, subjects.SIDECARS_CONSUMER, self.write, at_once=AT_ONCE)

    async def write(self, record: Record) -> None:
        """The sidecars of this job, if it is a dropped object's and has ended. Raises `Unavailable`."""
        if record.door != Door.DROP or not record.state.terminal or record.state == State.ERASED:
            return
        manifest = await self._records.manifest(record.tenant, record.job)
        if manifest is None or manifest.dropped is None:
            return  # erased meanwhile
        # Two jobs of an overwritten object must not mix what they write: the later one looks and writes after this one.
        async with self._writing.setdefault(manifest.dropped, asyncio.Lock()):
            await self._write(record, manifest, manifest.dropped)

    async def _write(self, record: Record, manifest: Manifest, key: str) -> None:
        if await self._overwritten(manifest):
            return  # the job of what is there now writes its own
        if record.state == State.COMPLETED:
            await self._transcript(manifest, key)
            return
        code = Code(record.failure.code) if record.failure else Code.CANCELLED
        message = record.failure.message if record.failure else ERRORS[code].title
        await self._error(record.tenant, key, code, message, record.job)

    async def refuse(self, tenant: str, key: str, problem: Problem) -> None:
        """Say why this object did not become a job. Raises `Unavailable`."""
        self._log.info("a dropped object was refused", tenant=tenant, code=problem.code)
        sentence = f"{problem.kind.title}. {problem.detail or ''}".strip()
        await self._error(tenant, key, problem.code, sentence)

    async def _transcript(self, manifest: Manifest, key: str) -> None:
        data = await self._blobs.get(objects.transcript(manifest.tenant, manifest.job))
        if data is None:
            return  # erased meanwhile
        target = objects.drop_out(manifest.tenant, key)
        # A long one takes a tenth of a second to parse and to write.
        for ending, content in (await asyncio.to_thread(_rendered, data, manifest)).items():
            await self._drop.put(target + ending, content)
        await self._drop.delete([target + ERROR])
        await self._drop.durable()
        if self._originals == "move" and not await self._overwritten(manifest) and await self._drop.stat(key):
            await self._drop.copy(key, objects.drop_done(manifest.tenant, key))
            await self._drop.durable()
        # Once more, since a copy takes its time: what was put there meanwhile is a recording that nobody has read.
        if self._originals != "keep" and not await self._overwritten(manifest):
            await self._drop.delete([key])

    async def _error(self, tenant: str, key: str, code: Code, sentence: str, job: str | None = None) -> None:
        target = objects.drop_out(tenant, key)
        content = {"code": code, "sentence": sentence, "remedy": ERRORS[code].remedy}
        await self._drop.put(target + ERROR, json.dumps(content | ({"job_id": job} if job else {}), indent=1).encode())
        await self._drop.delete(target + ending for ending in ENDINGS)
        await self._drop.durable()

    async def _overwritten(self, manifest: Manifest) -> bool:
        stat = await self._drop.stat(manifest.dropped or "")
        return stat is not None and stat.etag != manifest.etag


def _rendered(data: bytes, manifest: Manifest) -> dict[str, bytes]:
    transcript, options = Transcript.model_validate_json(data), manifest.options
    return {
        ending: render(transcript, form, width=options.max_line_width, count=options.max_line_count)
        for ending, form in ENDINGS.items()
    }
