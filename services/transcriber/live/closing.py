"""The end of a session: its audio becomes the source, its finals the words, and the assembler does the rest.

Every object is written once, and every step may be repeated, by another engine too: what a crash leaves half done is
found by the session's missing `done`.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from services.contracts import objects, subjects
from services.contracts.errors import ERRORS, Code
from services.contracts.events import Record
from services.contracts.jobs import Failure, State
from services.contracts.live import ENDS, OFFSET, OP, Encoding, Ended, Final, Op, Session
from services.contracts.parts import SAMPLE_RATE, Part, PartWords, Plan
from services.contracts.transcript import Span
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import read_batch, read_last
from services.runtime.kv import Conflict
from services.runtime.patience import until_there
from services.runtime.records import JobGone, Records
from services.transcriber.assemble import Assembler, merge
from services.transcriber.live.intake import received
from services.transcriber.live.keep import Keeper
from services.transcriber.live.recover import Past
from services.transcriber.live.waveforms import Waveforms

WAVE_FORMATS = {Encoding.PCM_S16LE: 1, Encoding.PCM_F32LE: 3, Encoding.ALAW: 6, Encoding.MULAW: 7}
"""Format tags of the WAVE header (RFC 2361)."""
UNKNOWN_SIZE = 0xFFFFFFFF
GAP = 0.5
"""Seconds between two words up to which the sound between them counts as transcribed."""
BATCH = 500
OURS = (Code.ENGINE, Code.POISON, Code.MODEL_AWAY, Code.INTERRUPTED)
"""Ends without a word that the operator hears of."""


class Cancelled(Exception):  # noqa: N818 - what happened
    """The job was ended by its owner: nothing more is heard."""


class Over(Exception):  # noqa: N818 - what happened
    """The session ends here, with an error of its client's or of ours."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class End:
    """What there is of a session when it ends. `code` says why it ended where its client did not end it.

    `peaks` is its waveform, where it is known. `gone`: its sound went with the bus, and `failed` of it unheard.
    """

    finals: Sequence[Final]
    duration: float
    language: str | None
    code: str | None
    peaks: bytes = b""
    gone: bool = False
    failed: tuple[Span, ...] = ()


class Closing:
    """Turns sessions into jobs that have ended."""

    def __init__(self, bus: Bus, blobs: Blobs, records: Records, assembler: Assembler, waveforms: Waveforms) -> None:
        self._bus = bus
        self._blobs = blobs
        self._records = records
        self._assembler = assembler
        self._waveforms = waveforms

    def keeper(self, session: Session) -> Keeper:
        """For the words of a session while it lasts."""
        return Keeper(self._blobs, session)

    async def begin(self, session: Session) -> Record | None:
        """The job's record, running; None when there is no such job any more."""

        def running(record: Record) -> Record | None:
            if record.state is State.RUNNING:
                return None
            timings = record.timings.model_copy(update={"started": record.timings.started or session.opened})
            return record.model_copy(update={"state": State.RUNNING, "timings": timings})

        try:
            return await self._records.change(session.tenant, session.session, running)
        except JobGone:
            return None

    async def check(self, session: Session) -> None:
        """Raise `Cancelled` when the job has ended already."""
        record = await self._records.get(session.tenant, session.session)
        if record is not None and record.state.terminal:
            raise Cancelled

    async def close(self, session: Session, end: End) -> str:
        """End the job; returns its state. Waits for a store that is away: the words are safe on the bus meanwhile."""
        return await until_there(lambda: self._close(session, end))

    async def _close(self, session: Session, end: End) -> str:
        finals, duration, code = end.finals, end.duration, end.code
        tenant, job = session.tenant, session.session
        record = await self.begin(session)
        if record is None or record.state.terminal:
            return record.state if record else State.ERASED
        source = objects.source(tenant, job)
        if not end.gone and await self._blobs.stat(source) is None:
            await self._shut(session)
            await self._blobs.upload(source, self._source(session))
        if code is not None and not finals:
            # Not a word, but its sound is kept: it can be done again.
            await self._blobs.durable()
            failure = Failure(code=code, message=ERRORS[Code(code)].title + ".", retryable=ERRORS[Code(code)].retryable)
            await self._assembler.fail(record, failure, ours=code in OURS)
            return State.FAILED
        if end.peaks:
            await self._blobs.put_once(objects.peaks(tenant, job), end.peaks)
        size = await self._blobs.stat(source)
        spans = _spans(finals, duration)
        samples = round(duration * SAMPLE_RATE)
        parts = 1 if samples else 0
        if parts:
            part = Part(n=0, start=0, end=samples, sha256="", speech=spans)
            segments = tuple(final.segment for final in finals)
            words = PartWords(
                n=0,
                language=end.language or next((segment.language for segment in segments if segment.language), None),
                segments=segments,
                transcribed=spans,
                failed=end.failed,
                suspect=merge((segment.start, segment.end) for segment in segments if segment.suspect),
            )
            await self._blobs.put_once(objects.part_meta(tenant, job, 0), part.encode())
            await self._blobs.put_once(objects.words(tenant, job, 0), words.encode())
        # A session that was ended by us (quota, its longest time) says so: there may have been more to hear.
        plan = Plan(parts=parts, duration=samples / SAMPLE_RATE, truncated=code is not None)
        await self._blobs.put_once(objects.plan(tenant, job), plan.encode())
        await self._blobs.durable()

        def sealed(current: Record) -> Record:
            return current.model_copy(
                update={
                    "parts": parts,
                    "sealed": True,
                    "done": "1" if parts else "0",
                    "duration": plan.duration,
                    "audio": plan.duration,
                    "audio_done": plan.duration,
                    "size": size.size if size else 0,
                    "language": current.language or end.language,
                }
            )

        record = await self._records.change(tenant, job, sealed)
        if not record.state.terminal:
            await self._assembler.complete(record)
        ended = await self._records.get(tenant, job)
        return ended.state if ended else State.COMPLETED

    def draw(self, session: Session) -> None:
        """Have the waveform drawn of a job that has ended well, if it has none: it was not heard by one engine."""
        self._waveforms.want(session)

    async def done(self, session: Session) -> None:
        """Take its sound off the bus, and tell everybody that the session needs no engine any more."""

        async def say() -> None:
            await self._shut(session)
            with suppress(Conflict):
                await self._roll_up(session)
            with suppress(Conflict):
                await self._bus.append(subjects.live_done(session.session), b"", 0)

        await until_there(say)

    async def _shut(self, session: Session) -> None:
        """See that nothing more is taken in: whatever was acknowledged is in the recording then."""
        subject = subjects.live_audio(session.session)
        while True:
            last = await read_last(self._bus.nc, subjects.LIVE, subject)
            headers = (last.headers or {}) if last else {}
            if headers.get(OP) in ENDS:
                return
            said = {OFFSET: str(received(last)), OP: Op.OVER}
            with suppress(Conflict):  # the client is still speaking
                await self._bus.append(subject, b"", int(headers.get("Nats-Sequence", 0)), said)

    async def _roll_up(self, session: Session) -> None:
        """Leave of the input one message that says how much there was: the recording is in the store now."""
        subject = subjects.live_audio(session.session)
        last = await read_last(self._bus.nc, subjects.LIVE, subject)
        headers = (last.headers or {}) if last else {}
        if "Nats-Rollup" not in headers:
            said = {OFFSET: str(received(last)), OP: headers.get(OP, Op.END), "Nats-Rollup": "sub"}
            await self._bus.append(subject, b"", int(headers.get("Nats-Sequence", 0)), said)

    async def _source(self, session: Session) -> AsyncIterator[bytes]:
        """The recording: a container as it came in, raw samples behind a WAVE header of their own encoding.

        Raises `Conflict` where it is not whole any more.
        """
        live = session.live
        if live.encoding in WAVE_FORMATS:
            yield wave_header(live.encoding, live.sample_rate, live.channels)
        after, more, headers = 0, True, {}
        subject = subjects.live_audio(session.session)
        while more:
            found, more = await read_batch(self._bus.nc, subjects.LIVE, subject, after, BATCH)
            for message in found:
                headers = message.headers or {}
                after = int(headers["Nats-Sequence"])
                if message.data and OP not in headers:
                    yield message.data
            await asyncio.sleep(0)
        if headers.get(OP) not in ENDS or "Nats-Rollup" in headers:
            raise Conflict(session.session)  # another engine has ended it, and taken the rest off the bus


def ended_of(record: Record | None, past: Past) -> Ended:
    """What is still to be said of a session whose job has ended already; without a record it was erased."""
    state, failure = (record.state, record.failure) if record else (State.ERASED, None)
    return Ended(
        position=past.end,
        state=state,
        duration=record.duration if record else past.end,
        finals=len(past.finals),
        code=failure.code if failure else None,
    )


def wave_header(encoding: Encoding, rate: int, channels: int) -> bytes:
    """The header of a WAVE file whose length is not known, as of a stream (players read on to its end)."""
    width = (encoding.bytes_per_sample or 1) * channels
    tag, bits = WAVE_FORMATS[encoding], 8 * (encoding.bytes_per_sample or 1)
    head = struct.pack("<4sI4s4sI", b"RIFF", UNKNOWN_SIZE, b"WAVE", b"fmt ", 16)
    return head + struct.pack("<HHIIHH4sI", tag, channels, rate, rate * width, width, bits, b"data", UNKNOWN_SIZE)


def _spans(finals: Sequence[Final], duration: float) -> tuple[Span, ...]:
    """Where words were heard, pauses within speech included."""
    words = [(word.start, word.end) for final in finals for word in (final.words or (final.segment,))]
    widened = [(max(0.0, start - GAP / 2), min(duration, end + GAP / 2)) for start, end in words]
    return merge(span for span in widened if span[0] < span[1])
