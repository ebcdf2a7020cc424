"""One live session on this engine: steps while somebody speaks, finals at every pause, a job at the end."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from services.contracts import subjects
from services.contracts.auth import Granted, Reserve
from services.contracts.errors import Code
from services.contracts.events import SegmentsEvent
from services.contracts.live import (
    OFFSET,
    OP,
    RESUME_WITHIN,
    Claimed,
    Ended,
    Final,
    Heard,
    Interim,
    Lag,
    Op,
    Session,
    SpeechStarted,
    UtteranceEnd,
)
from services.contracts.transcript import Segment, Word
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_last
from services.runtime.kv import Conflict
from services.runtime.logs import get_logger
from services.runtime.patience import until_there
from services.transcriber.engine.protocol import Engine, EngineDied, EngineFailed, ModelAway, Task, Window, WindowResult
from services.transcriber.live.agreement import MEMORY, Agreement
from services.transcriber.live.closing import Cancelled, Closing
from services.transcriber.live.ear import BREATH, CONTEXT, LONGEST, Ear, Sound
from services.transcriber.live.intake import Intake
from services.transcriber.live.load import STEP, Load
from services.transcriber.live.recover import Past, past_of
from services.transcriber.prepare.media import DecoderDied, MediaError
from services.transcriber.prepare.sandbox import Sandbox

AHEAD = 60.0
"""Seconds of sound that are decoded ahead of what is heard; what is beyond waits in the stream."""
SETTLE = 0.3
"""Seconds without new sound after which a `finalize` has reached the end of what was sent before it."""
TELL_LAG = 1.0
"""Seconds behind from which on the client is told so."""
MINUTE = 60.0
"""Seconds that are reserved of the quota at a time."""
CHECK = 1.0
"""Seconds between two looks whether the job was cancelled."""
TRIES = 3
"""Deaths of the engine on one utterance after which it is given up, and said so."""


class Over(Exception):  # noqa: N818 - what happened
    """The session ends here: with an error of its client's, or because its job was cancelled."""

    def __init__(self, code: Code | None) -> None:
        super().__init__(code)
        self.code = code


class LiveSession:
    """Hears one session from where it stands to its end. One instance per claim; `run` once."""

    def __init__(
        self, bus: Bus, sandbox: Sandbox, engine: Engine, closing: Closing, load: Load, session: Session, name: str
    ) -> None:
        self._bus = bus
        self._sandbox = sandbox
        self._engine = engine
        self._closing = closing
        self._load = load
        self._session = session
        self._name = name
        self._log = get_logger()
        self._past = Past()
        self._reserved = 0.0
        self._lag = 0.0
        self._language = session.options.language
        self._heard_to = 0.0
        self._step_at = 0.0
        self._fed_at = 0.0
        self._checked_at = 0.0
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        """Set when some of what was decoded has been judged."""

    @property
    def lag(self) -> float:
        """Seconds that this session is behind its audio."""
        return self._lag

    async def run(self) -> None:
        """Until the session has become a job. Raises `Conflict` when another engine has taken it over."""
        self._past = await past_of(self._bus.nc, self._session.session)
        code: str | None = None
        await self._closing.begin(self._session)
        if self._past.ended is None:
            code = await self._hear_out()
        duration = self._past.ended.duration if self._past.ended else self._heard_to
        finals = self._past.finals
        state = await self._closing.close(self._session, finals, duration, self._language, code)
        if self._past.ended is None:
            await self._say(Ended(position=duration, state=state, duration=duration, finals=len(finals), code=code))
        await self._closing.done(self._session)

    async def _hear_out(self) -> str | None:
        """Hear the session to its end; the code of the error that ended it, if one did."""
        for tried in range(1, TRIES + 1):
            try:
                await self._hear_all()
            except (MediaError, Over) as error:
                return error.code
            except Cancelled:
                return None
            except DecoderDied:
                self._log.warning("a decoder died on a live session", job=self._session.session, tried=tried)
                continue
            return None
        return Code.POISON

    async def _hear_all(self) -> None:
        past, session = self._past, self._session
        self._heard_to = past.resume
        intake = Intake(self._bus.nc, self._sandbox, session, past.input, past.resume)
        agreement = Agreement(
            past.finals[-1].end if past.finals else 0.0,
            [word for final in past.finals[-MEMORY:] for word in final.words],
        )
        ear = Ear(intake.start, session.live.endpointing_ms / 1000)
        loaded = {model.name for model in self._engine.models() if model.loaded}
        await self._say(
            Claimed(
                position=past.resume,
                engine=self._name,
                warm=session.options.model in loaded,
                ready_in=None if session.options.model in loaded else self._load.loading,
                input=past.input,
            )
        )
        reading = asyncio.create_task(self._read(intake, ear), name=f"live {session.session}")
        try:
            while True:
                over = reading.done()
                if over and not reading.cancelled() and (error := reading.exception()) is not None:
                    raise error
                busy = await self._go_on(intake, ear, agreement, over)
                if over and not busy:
                    break
                if not busy:
                    await self._wait(intake, reading)
            await self._close_utterance(intake, ear, agreement, speech_final=True)
            self._heard_to = max(self._heard_to, ear.arrived)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, intake: Intake, ear: Ear) -> None:
        try:
            async for block in intake.blocks():
                ear.feed(block)
                self._fed_at = asyncio.get_running_loop().time()
                self._came.set()
                if ear.arrived > self._session.max_seconds:
                    raise Over(Code.TOO_LONG)
                while ear.arrived - ear.judged > AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._came.set()

    async def _wait(self, intake: Intake, reading: "asyncio.Task[None]") -> None:
        """Until sound has come, or the client has been silent for so long that it is lost."""
        self._came.clear()
        timeout = SETTLE if intake.finalize.is_set() else 1.0
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._came.wait()
        loop = asyncio.get_running_loop()
        # While sound is decoded that came long ago, the input behind it waits unread.
        heard_at = max(intake.heard_at, self._fed_at)
        if not intake.ended and not reading.done() and loop.time() - heard_at > RESUME_WITHIN:
            await self._give_up()
        if loop.time() - self._checked_at >= CHECK:
            self._checked_at = loop.time()
            await self._closing.check(self._session)

    async def _give_up(self) -> None:
        """Close the input of a client that did not come back; if it does at this very moment, it wins."""
        subject = subjects.live_audio(self._session.session)
        last = await read_last(self._bus.nc, subjects.LIVE, subject)
        headers = (last.headers or {}) if last else {}
        offset = int(headers.get(OFFSET, 0)) + (len(last.data) if last else 0)
        with suppress(Conflict):
            sequence = int(headers.get("Nats-Sequence", 0))
            await self._bus.append(subject, b"", sequence, {OFFSET: str(offset), OP: Op.LOST})

    async def _go_on(self, intake: Intake, ear: Ear, agreement: Agreement, over: bool) -> bool:
        """Do the next thing that is due; says whether there was one."""
        began = ear.listen()
        self._room.set()
        if began:
            await self._say(SpeechStarted(position=round(ear.voice, 3)))
            return True
        self._heard_to = max(self._heard_to, ear.judged if not ear.speaking else self._heard_to)
        if not ear.speaking:
            if intake.finalize.is_set() and not self._came.is_set():
                intake.finalize.clear()
                await self._finalized(ear, agreement)
            return ear.behind
        if ear.endpoint:
            await self._close_utterance(intake, ear, agreement, speech_final=True)
            return True
        held = ear.judged - ear.started
        if held >= LONGEST:
            at = agreement.before(min(agreement.end, ear.judged - CONTEXT)) - BREATH
            if at - ear.started > 1.0:
                ear.cut(at)
            elif held >= LONGEST + 8.0:
                await self._close_utterance(intake, ear, agreement, speech_final=False)
                return True
        if intake.finalize.is_set() and not self._came.is_set():
            intake.finalize.clear()
            await self._close_utterance(intake, ear, agreement, speech_final=False, from_finalize=True)
            return True
        if ear.judged - self._step_at >= STEP and not over:
            await self._step(intake, ear, agreement)
            return True
        return ear.behind

    async def _step(self, intake: Intake, ear: Ear, agreement: Agreement) -> None:
        sound = ear.utterance()
        self._step_at = sound.end
        options = self._session.options
        result = await self._hear(sound, live=True)
        words = [word for segment in result.segments for word in segment.words]
        self._heard_to = max(self._heard_to, sound.end)
        # What may be invented decides nothing: the next hypothesis or the accurate pass does.
        final = [] if result.suspect else agreement.hear(words, sound.end, sound.start)
        if final:
            await self._final(final, result, intake, ear, resume=sound.start)
        pending = agreement.pending
        if self._session.live.interim_results and (pending or not final):
            await self._say(
                Interim(
                    position=round(sound.end, 3),
                    start=pending[0].start if pending else round(agreement.end, 3),
                    end=pending[-1].end if pending else round(agreement.end, 3),
                    text="".join(word.word for word in pending),
                    words=pending if options.word_timestamps else (),
                )
            )
        await self._tell_lag(ear)
        await self._reserve(sound.end)

    async def _close_utterance(
        self, intake: Intake, ear: Ear, agreement: Agreement, *, speech_final: bool, from_finalize: bool = False
    ) -> None:
        """The accurate pass: it decides what is not final yet, and nothing else."""
        if not ear.speaking:
            return
        sound = ear.utterance()
        result = await self._hear(sound, live=False)
        words = [word for segment in result.segments for word in segment.words]
        final = agreement.close(words, sound.start)
        ear.close()
        self._step_at = ear.judged
        self._heard_to = max(self._heard_to, sound.end)
        last = max(agreement.end, sound.start)
        if final:
            await self._final(
                final, result, intake, ear, resume=ear.started, speech_final=speech_final, from_finalize=from_finalize
            )
        elif from_finalize:
            await self._finalized(ear, agreement)
        if speech_final:
            await self._say(UtteranceEnd(position=round(sound.end, 3), last_word_end=round(last, 3)))
        await self._tell_lag(ear)
        await self._reserve(sound.end)

    async def _finalized(self, ear: Ear, agreement: Agreement) -> None:
        """An answer to `finalize` where nobody speaks: what is final is final."""
        await self._say(UtteranceEnd(position=round(ear.judged, 3), last_word_end=round(agreement.end, 3)))

    async def _hear(self, sound: Sound, *, live: bool) -> WindowResult:
        options = self._session.options
        task = Task(
            model=options.model,
            language=self._language,
            task=options.task,
            prompt=options.prompt,
            hotwords=options.hotwords,
            beam_size=1 if live else options.beam_size,
            live=live,
        )
        window = Window(pcm=sound.pcm, start=sound.start)
        for tried in range(1, TRIES + 1):
            try:
                with self._load.measuring():
                    [result] = await self._engine.transcribe([window], task, urgent=True)
            except EngineDied as error:
                self._log.warning("the engine died on a live session", job=self._session.session, cause=error.cause)
                if tried == TRIES:
                    raise Over(Code.ENGINE) from error
                continue
            except EngineFailed as error:
                self._log.error("the engine cannot hear a live session", job=self._session.session, reason=error.reason)
                raise Over(Code.MODEL_AWAY if isinstance(error, ModelAway) else Code.ENGINE) from error
            if self._language is None and result.language and result.segments and not live:
                self._language = result.language
            return result
        raise AssertionError

    async def _final(
        self,
        words: Sequence[Word],
        result: WindowResult,
        intake: Intake,
        ear: Ear,
        *,
        resume: float,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        text = "".join(word.word for word in words)
        heard = result.segments[0] if result.segments else None
        segment = Segment(
            start=words[0].start,
            end=words[-1].end,
            text=text,
            words=tuple(words),
            language=result.language,
            avg_logprob=heard.avg_logprob if heard else 0.0,
            no_speech_prob=heard.no_speech_prob if heard else 0.0,
            compression_ratio=heard.compression_ratio if heard else 0.0,
            suspect=next((one.suspect for one in result.segments if one.suspect), None),
        )
        final = Final(
            position=round(result.end, 3),
            n=len(self._past.finals),
            start=segment.start,
            end=segment.end,
            text=text,
            words=segment.words,
            segment=segment,
            speech_final=speech_final,
            from_finalize=from_finalize,
            input=intake.input_at(resume),
            resume=round(resume, 3),
        )
        await self._say(final)
        self._past.finals.append(final)
        event = SegmentsEvent(
            job=self._session.session, part=final.n, start=final.start, end=final.end, segments=(segment,)
        )
        await until_there(lambda: self._bus.publish(subjects.segments(self._session.tenant, event.job), event))

    async def _tell_lag(self, ear: Ear) -> None:
        lag = max(0.0, ear.arrived - self._heard_to)
        if (lag >= TELL_LAG and abs(lag - self._lag) >= TELL_LAG / 2) or (lag < TELL_LAG <= self._lag):
            await self._say(Lag(position=round(self._heard_to, 3), seconds=round(lag, 2)))
        self._lag = lag

    async def _reserve(self, seconds: float) -> None:
        """A minute of the quota at a time; without any left the session ends with the words so far."""
        if seconds <= self._reserved:
            return
        ask = Reserve(tenant=self._session.tenant, job=self._session.session, seconds=self._reserved + MINUTE)
        try:
            granted = await self._bus.request(subjects.KEYS_RESERVE, ask, Granted)
        except Unavailable:
            return  # keys is away: asked again at the next step, and settled at the end
        if not granted.ok:
            raise Over(Code.QUOTA)
        self._reserved += MINUTE

    async def _say(self, said: Heard) -> None:
        """Publish the next message of the session. Raises `Conflict` when another engine has said one meanwhile."""
        subject = subjects.live_out(self._session.session)

        async def append() -> None:
            try:
                self._past.last = await self._bus.append(subject, said.encode(), self._past.last)
            except Unavailable:
                # It may be stored all the same: then it is the last one, and must not be said twice.
                last = await read_last(self._bus.nc, subjects.LIVE, subject)
                if last is None or last.data != said.encode():
                    raise
                self._past.last = int((last.headers or {})["Nats-Sequence"])

        await until_there(append)  # sound waits in the stream meanwhile
