"""The live door: sessions are opened, and any ingest goes on with any of them.

Nothing of a session is held here: what was acknowledged lies on the bus, and what was heard is read from there.
"""

import asyncio
import time

from services.contracts import objects, subjects
from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_job_id, new_job_id
from services.contracts.jobs import Door, Lane, Options, State
from services.contracts.live import Encoding, LiveOptions, Session, Start
from services.contracts.stream import Cursor, epoch_of
from services.contracts.transcript import Transcript
from services.ingest.asked import Asked, ask_of, manifest_of
from services.ingest.auth import require
from services.ingest.engines import Engines
from services.ingest.line import Line
from services.ingest.options import field_of, options_of
from services.ingest.quota import Quota
from services.ingest.settings import Settings
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_last
from services.runtime.records import Records, fresh

COME_BACK = 15.0
"""Seconds after which to try again when all engines are taken: sessions are short or long, nobody knows."""
CONTAINERS = (b"\x1a\x45\xdf\xa3", b"OggS")
"""First bytes of what browsers record; MP4 says `ftyp` behind four bytes of length."""
SIGNATURE = 8
"""Bytes that tell a container from raw samples."""
LEAVING = (0.2, 0.3, 0.5)
"""Seconds between looks for a place: that of a session whose client has just read the summary is soon free."""
OTHERS = 5.0
"""Seconds for which others who begin at the same time are waited for; they take some milliseconds each."""
FULL = 0.8
"""Share of the stream beyond which no session begins, and"""
BRIM = 0.9
"""beyond which no audio is taken in: words and ends of the sessions that last need the rest."""
LOOK = 1.0
"""Seconds between two looks how full it is."""


class LiveDoor:
    """Opens sessions and writes their input. Raises `Problem`, `Unavailable`."""

    def __init__(
        self, bus: Bus, blobs: Blobs, records: Records, engines: Engines, quota: Quota, settings: Settings
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._engines = engines
        self._quota = quota
        self._settings = settings
        self._opening = asyncio.Lock()
        self._filled = 0.0
        self._looked_at = float("-inf")

    async def open(self, who: Claims, start: Start) -> Line:
        """A new session: its job is durable when this returns. Raises `Problem` NO_ROOM and those of a submission."""
        require(who, Scope.SUBMIT)
        wished = {name: getattr(start, name) for name in ("model", "language", "prompt", "hotwords", "word_timestamps")}
        fields = {name: field_of(value) for name, value in wished.items() if value is not None}
        models = await self._engines.models()
        options = options_of(fields, models, self._settings.default_model, self._settings.default_language)
        job = new_job_id()
        await self._wait_for_room()
        try:
            async with asyncio.timeout(OTHERS):
                await self._opening.acquire()
        except TimeoutError:
            raise Problem(Code.UNAVAILABLE, "Others have not begun yet.", retry_after=1.0) from None
        # One after the other: who is counted has to be on the stream before the next one counts.
        try:
            await self._find_room()
            try:
                await self._quota.take(who, job, 0)  # which may be done though no answer came in time
                session = await self._write_down(who, job, options, start)
            except BaseException:
                # If it became a job all the same, its first event counts it again.
                await self._quota.release_if_can(who.tenant, job)
                raise
        finally:
            self._opening.release()
        card = models.get(options.model)
        return Line(self._bus, session, self._room, warm=bool(card and card.loaded))

    async def _wait_for_room(self) -> None:
        """Back when there seems to be room, or nobody is just leaving."""
        for pause in LEAVING:
            try:
                await self._find_room()
                return
            except Problem:
                await asyncio.sleep(pause)

    async def _find_room(self) -> None:
        cards = await self._engines.cards()
        opened, done = [
            {subject.split(".")[1] for subject in await self._bus.counts(subjects.LIVE, pattern)}
            for pattern in (subjects.ALL_LIVE_OPEN, subjects.ALL_LIVE_DONE)
        ]
        # By name: what a session began with leaves the stream before what it ended with.
        if len(opened - done) >= sum(card.live.capacity for card in cards if card.live):
            detail = "Every engine hears as many sessions as it can." if cards else "No engine is there."
            raise Problem(Code.NO_ROOM, detail, retry_after=COME_BACK)
        if await self._fill() > FULL:
            raise Problem(Code.NO_ROOM, "What is being heard fills the message bus.", retry_after=COME_BACK)

    async def _room(self) -> None:
        if await self._fill() > BRIM:
            raise Problem(Code.UNAVAILABLE, "What is being heard fills the message bus.", retry_after=COME_BACK)

    async def _fill(self) -> float:
        """Share of the stream that is full, as of a moment ago."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= LOOK:
            self._looked_at = now  # whoever comes meanwhile goes by what was there before
            self._filled = await self._bus.filled(subjects.LIVE)
        return self._filled

    async def _write_down(self, who: Claims, job: str, options: Options, start: Start) -> Session:
        asked = await ask_of(who, Asked(options))()
        manifest = manifest_of(who, job, asked, Door.LIVE, Lane.LIVE, "", 0, start.name)
        await self._blobs.put_once(objects.manifest(who.tenant, job), manifest.encode())
        await self._blobs.durable()
        await self._records.create(fresh(manifest))
        session = Session(
            session=job,
            tenant=who.tenant,
            options=options,
            live=LiveOptions.model_validate({name: getattr(start, name) for name in LiveOptions.model_fields}),
            opened=time.time(),
            max_seconds=self._settings.live_max_seconds,
        )
        await self._bus.append(subjects.live_open(job), session.encode(), 0)
        return session

    async def resume(self, who: Claims, name: str) -> Line:
        """A session that is there already, from its last acknowledged byte on; one that has ended may be heard out.

        Raises `Problem` FORBIDDEN, JOB_NOT_FOUND, ERASED, SESSION_ENDED for one that has left the bus, and TAKEN where
        others resume it at the same time.
        """
        require(who, Scope.SUBMIT)
        record = await self._records.get(who.tenant, name) if is_job_id(name) else None
        if record is not None and record.state == State.ERASED:
            raise Problem(Code.ERASED)
        found = await read_last(self._bus.nc, subjects.LIVE, subjects.live_open(name)) if is_job_id(name) else None
        session = Session.model_validate_json(found.data) if found else None
        if session is None or session.tenant != who.tenant:
            if record is None or record.lane != Lane.LIVE:
                raise Problem(Code.JOB_NOT_FOUND)
            if record.state.terminal:
                raise Problem(Code.SESSION_ENDED)
            raise Unavailable("bus")  # which lost it: soon the session is there again, as one that has ended
        line = Line(self._bus, session, self._room)
        await line.take_over()
        return line

    async def text(self, session: Session) -> str:
        """The text of a session that has become a job; empty when it is not there."""
        data = await self._blobs.get(objects.transcript(session.tenant, session.session))
        return Transcript.model_validate_json(data).text if data else ""

    async def epoch(self) -> str:
        """The epoch of the cursors, asked for anew: the stream may be another one by now. Raises `Unavailable`."""
        return epoch_of(await self._bus.epoch(subjects.LIVE))

    async def after(self, cursor: str | None) -> int:
        """The sequence behind a client's cursor; 0, from the start, for none and for one of another stream."""
        if cursor is None:
            return 0
        try:
            parsed = Cursor.parse(cursor)
        except ValueError:
            raise Problem(Code.MALFORMED, "`after` is the `cursor` of a message.") from None
        return parsed.sequence if parsed.epoch == await self.epoch() else 0


def encoding_of(audio: bytes) -> Encoding:
    """What a client sends that did not say so: a container by its first bytes, else raw samples."""
    container = audio.startswith(CONTAINERS) or audio[4:8] == b"ftyp"
    return Encoding.CONTAINER if container else Encoding.PCM_S16LE
