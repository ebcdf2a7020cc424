"""One live session on this engine: from where it stands to its end, when it becomes a job like any other."""

import asyncio
from contextlib import aclosing, suppress

from services.contracts import subjects
from services.contracts.errors import Code
from services.contracts.jobs import State
from services.contracts.live import OFFSET, OP, RESUME_WITHIN, Claimed, Ended, Op, Session
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_last
from services.runtime.kv import Conflict
from services.runtime.lifecycle import cancel
from services.runtime.logs import get_logger
from services.runtime.patience import until_there
from services.transcriber.engine.protocol import Engine
from services.transcriber.live.closing import Cancelled, Closing, End, Over, ended_of
from services.transcriber.live.ear import Ear
from services.transcriber.live.intake import SETTLE, Intake, received
from services.transcriber.live.keep import KEEP
from services.transcriber.live.load import Load
from services.transcriber.live.minutes import Minutes
from services.transcriber.live.recover import Past, past_of
from services.transcriber.live.told import Told
from services.transcriber.live.utterances import AHEAD, Utterances
from services.transcriber.prepare.media import DecoderDied, MediaError
from services.transcriber.prepare.sandbox import Sandbox

CHECK = 1.0
"""Seconds between two looks whether the job was cancelled."""
TRIES = 3
"""Deaths of the decoder without a word between them after which the session is given up, and says so."""


class LiveSession:
    """Hears one session. One instance per claim; `run` once."""

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
        self._told = Told(bus, session, self._past)
        self._keeper = closing.keeper(session)
        self._minutes = Minutes(bus, session)
        self._language = session.options.language
        self._intake: Intake | None = None
        self._speech: Utterances | None = None
        self._fed_at = 0.0
        self._checked_at = 0.0
        self._came = asyncio.Event()
        self._room = asyncio.Event()
        """Set when some of what was decoded has been judged."""

    @property
    def lag(self) -> float:
        """Seconds that this session is behind its audio."""
        return self._told.lag

    async def run(self) -> None:
        """Until the session has become a job. Raises `Conflict` when another engine has taken it over."""
        session = self._session
        past = self._past = await past_of(self._bus.nc, session.session)
        self._told = Told(self._bus, session, past)
        record = await self._closing.begin(session)
        if past.ended is None and (record is None or record.state.terminal):
            # By its owner; or whoever ended it died before he said so. Its words are what they are.
            await self._told.say(ended_of(record, past))
        elif past.ended is None:
            end = await (self._salvage() if session.lost else self._hear_out())
            state = await self._closing.close(session, end)
            number = len(end.finals)
            await self._told.say(
                Ended(position=end.duration, state=state, duration=end.duration, finals=number, code=end.code)
            )
        await until_there(self._keeper.forget)
        await self._closing.done(session)
        if past.ended is not None and past.ended.state == State.COMPLETED:
            self._closing.draw(session)

    async def _salvage(self) -> End:
        """The end of a session that the bus knows nothing of any more: what of it was kept in the store."""
        kept = await until_there(self._keeper.found)
        self._log.error("a live session was lost with the bus", job=self._session.session, finals=len(kept.finals))
        lost = ((kept.heard, kept.arrived),) if kept.arrived > kept.heard else ()
        return End(kept.finals, kept.arrived, self._language, Code.INTERRUPTED, gone=True, failed=lost)

    async def _hear_out(self) -> End:
        """Hear the session to its end, keeping words in the store meanwhile."""
        keeping = asyncio.create_task(self._keep(), name=f"keep {self._session.session}")
        try:
            await self._told.again()
            code = await self._hear()
        finally:
            await cancel(keeping)
        speech, intake = self._speech, self._intake
        return End(
            finals=self._past.finals,
            duration=speech.heard_to if speech else 0.0,
            language=speech.language if speech else self._language,
            code=code,
            peaks=intake.peaks.close() if intake and intake.whole else b"",
        )

    async def keep(self) -> None:
        """Keep the finals so far in the store, if it is there."""
        if self._speech is not None:
            with suppress(Unavailable):
                await self._keeper.keep(list(self._past.finals), self._speech.heard_to, self._speech.ear.arrived)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP)
            await self.keep()

    async def _hear(self) -> str | None:
        """Hear the session to its end; the code of the error that ended it, if one did."""
        tried, words = 0, -1
        while tried < TRIES:
            try:
                await self._hear_all()
            except (MediaError, Over) as error:
                return error.code
            except Cancelled:
                return None
            except DecoderDied:
                tried = tried + 1 if words == len(self._past.finals) else 1
                words = len(self._past.finals)
                self._log.warning("a decoder died on a live session", job=self._session.session, tried=tried)
                continue
            return None
        return Code.POISON

    async def _hear_all(self) -> None:
        past, session = self._past, self._session
        intake = self._intake = Intake(self._bus.nc, self._sandbox, session, past, self._came.set)
        speech = self._speech = Utterances(self._engine, self._load, session, self._told, past, self._minutes, intake)
        loaded = {model.name for model in self._engine.models() if model.loaded}
        await self._told.say(
            Claimed(
                position=past.resume,
                engine=self._name,
                warm=session.options.model in loaded,
                ready_in=None if session.options.model in loaded else self._load.loading,
                input=past.input,
            )
        )
        reading = asyncio.create_task(self._read(intake, speech.ear), name=f"live {session.session}")
        error: MediaError | Over | None = None
        try:
            while True:
                await self._check()
                over = reading.done()
                # What was decoded before an error of the sound is heard out.
                if over and error is None:
                    error = _error_of(reading)
                busy = await speech.go_on(idle=not self._came.is_set(), over=over)
                self._room.set()
                if over and not busy:
                    break
                if not busy:
                    await self._wait(intake, reading)
            await speech.end()
            speech.heard_to = max(speech.heard_to, speech.ear.arrived)
            if error is not None:
                raise error
            if intake.cut:
                raise Over(Code.TOO_LONG)
        finally:
            self._language = speech.language
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, intake: Intake, ear: Ear) -> None:
        try:
            async with aclosing(intake.blocks()) as blocks:
                async for block in blocks:
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
        timeout = SETTLE if intake.finalizing else 1.0
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._came.wait()
        loop = asyncio.get_running_loop()
        # While sound is decoded that came long ago, the input behind it waits unread.
        heard_at = max(intake.heard_at, self._fed_at)
        if not intake.ended and not reading.done() and loop.time() - heard_at > RESUME_WITHIN:
            await self._give_up(intake)

    async def _check(self) -> None:
        """Raise `Cancelled` when the job has ended; looked at now and then, however much there is to hear."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at >= CHECK:
            self._checked_at = now
            with suppress(Unavailable):  # the next look tells
                await self._closing.check(self._session)

    async def _give_up(self, intake: Intake) -> None:
        """Close the input of a client that did not come back; if it does at this very moment, it wins.

        Raises `DecoderDied` when it was there all the time: then it is we who took nothing in.
        """
        subject = subjects.live_audio(self._session.session)
        last = await read_last(self._bus.nc, subjects.LIVE, subject)
        sequence = int((last.headers or {}).get("Nats-Sequence", 0)) if last else 0
        if sequence > intake.sequence:
            raise DecoderDied
        with suppress(Conflict):
            await self._bus.append(subject, b"", sequence, {OFFSET: str(received(last)), OP: Op.LOST})


def _error_of(reading: "asyncio.Task[None]") -> MediaError | Over | None:
    """Why a session's sound has ended too early, if it has. Raises what is no fault of the sound's."""
    error = None if reading.cancelled() else reading.exception()
    if error is not None and not isinstance(error, MediaError | Over):
        raise error
    return error
