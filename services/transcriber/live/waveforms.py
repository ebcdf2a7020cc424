"""Waveforms of sessions that no engine heard from their beginning: drawn from the recording, when there is time.

Nobody who speaks or waits is held up by it: the session has ended for everybody before, one recording is decoded at a
time, and its decoder makes way like that of any job. Nobody repeats it either: what an engine still has to draw when it
goes is not drawn, and the job is whole without it.
"""

import asyncio
from functools import partial

from services.contracts import objects
from services.contracts.jobs import State
from services.contracts.live import Session
from services.runtime.blobs import Blobs
from services.runtime.logs import get_logger
from services.runtime.patience import until_there
from services.runtime.records import Records
from services.transcriber.prepare.media import DecoderDied, MediaError
from services.transcriber.prepare.peaks import Peaks
from services.transcriber.prepare.ranges import Ranges
from services.transcriber.prepare.sandbox import Sandbox

EVERY = 2.0
"""Seconds between two tries while the store or the bus is away."""


class Waveforms:
    """Draws what is missing, one recording after the other."""

    def __init__(self, blobs: Blobs, records: Records, sandbox: Sandbox) -> None:
        self._blobs = blobs
        self._records = records
        self._sandbox = sandbox
        self._wanted: asyncio.Queue[Session] = asyncio.Queue()
        self._log = get_logger()

    def want(self, session: Session) -> None:
        """Have the waveform of a session drawn whose job has ended well, if it has none."""
        self._wanted.put_nowait(session)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            session = await self._wanted.get()
            try:
                await until_there(partial(self._draw, session), EVERY)
            except (MediaError, DecoderDied) as error:
                self._log.info("a waveform cannot be drawn", job=session.session, reason=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - no reason to end a service that hears others
                self._log.error("a waveform failed", job=session.session, error=type(error).__name__, exc_info=error)

    async def _draw(self, session: Session) -> None:
        tenant, job = session.tenant, session.session
        source, key = objects.source(tenant, job), objects.peaks(tenant, job)
        found = await self._blobs.stat(source)
        if found is None or await self._blobs.stat(key) is not None:
            return
        recording = Ranges(lambda offset, length: self._blobs.slice(source, offset, length), found.size)
        peaks = Peaks()
        async with self._sandbox.decode(recording) as decoding:
            async for block in decoding:
                peaks.feed(block.pcm)
        record = await self._records.get(tenant, job)
        if record is not None and record.state is State.COMPLETED:  # and not erased meanwhile
            await self._blobs.put_once(key, peaks.close())
