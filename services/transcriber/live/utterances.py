"""From sound to words: hypotheses while somebody speaks, the accurate pass at every pause."""

import asyncio
from contextlib import suppress

from services.contracts.errors import Code
from services.contracts.live import Interim, Quiet, Session, SpeechStarted, UtteranceEnd
from services.contracts.transcript import Word
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger
from services.transcriber.engine.protocol import Engine, EngineDied, EngineFailed, ModelAway, Task, Window, WindowResult
from services.transcriber.live.agreement import MEMORY, Agreement
from services.transcriber.live.closing import Over
from services.transcriber.live.ear import BREATH, CONTEXT, FULL, LONGEST, Ear, Sound
from services.transcriber.live.intake import Intake
from services.transcriber.live.load import STEP, Load
from services.transcriber.live.minutes import Minutes
from services.transcriber.live.recover import Past
from services.transcriber.live.told import TELL_LAG, Told

AHEAD = 60.0
"""Seconds of sound that are decoded ahead of what is heard; what is beyond waits in the stream."""
ASK = 1.0
"""Seconds behind from which on the stream is asked how much waits there, and seconds between two such questions."""
QUIET = 30.0
"""Seconds of silence after which it is written down that they need not be heard again."""
TRIES = 3
"""Deaths of the engine on one utterance after which it is given up, and said so."""
DEATHS, AGAIN = 10, 0.5
"""The same for deaths of which others, or none of us, are the reason; and seconds before it is tried again then."""


class Utterances:
    """Hears what the ear holds, one thing at a time. Raises `Over` where the session ends by it."""

    def __init__(
        self, engine: Engine, load: Load, session: Session, told: Told, past: Past, minutes: Minutes, intake: Intake
    ) -> None:
        self._engine = engine
        self._load = load
        self._session = session
        self._told = told
        self._minutes = minutes
        self._intake = intake
        self._language = session.options.language or past.language
        self._agreement = Agreement(past.end, [word for final in past.finals[-MEMORY:] for word in final.words])
        self.ear = Ear(intake.start, session.live.endpointing_ms / 1000, past.end if past.speaking else None)
        self.heard_to = past.resume
        """Seconds up to which everything was heard."""
        self._step_at = intake.start
        self._marked = past.resume
        self._ended = (past.owed.end, past.owed.position) if past.owed else None
        """Of an utterance that is over, while that was not said: where its last word ends, and where it was known."""
        self._asked_at = 0.0
        self._waiting = 0.0
        self._log = get_logger()

    @property
    def language(self) -> str | None:
        """Asked for, or heard."""
        return self._language

    async def go_on(self, *, idle: bool, over: bool) -> bool:
        """Do the next thing that is due; says whether there was one.

        `idle`: no sound has come since the last time. `over`: none will come.
        """
        ear = self.ear
        # What is behind the place up to which all is to be final waits until it is.
        if ear.listen(min(FULL, self._intake.finalize_at - ear.started)):
            await self._utterance_ended(ear.voice)
            self._ended = None  # or nobody has paused for as long as that
            await self._told.say(SpeechStarted(position=round(ear.voice, 3)))
            return True
        flush = self._intake.to_finalize(ear.judged, idle=idle, behind=ear.behind, over=over)
        if not ear.speaking:
            self.heard_to = max(self.heard_to, ear.judged)
            await self._utterance_ended(ear.judged, at_once=flush)
            if flush:
                self._intake.finalized()
                await self._nothing_more(ear.judged)
            if ear.judged - self._marked >= QUIET:
                await self._mark()
            if not ear.behind and self._told.lag >= TELL_LAG:
                # It was silence that lay behind the last words, and it is heard by now.
                await self._told.lagging(self.heard_to, await self._behind())
            return ear.behind or flush
        held = ear.judged - ear.started
        if ear.endpoint:
            await self.close(speech_final=True)
            return True
        if held >= LONGEST:
            at = self._agreement.before(min(self._agreement.end, ear.judged - CONTEXT)) - BREATH
            if at - ear.started > 1.0:
                ear.cut(at)
            elif held >= FULL - 2.0:
                await self.close(speech_final=False)
                return True
        if flush:
            self._intake.finalized()
            await self.close(speech_final=False, from_finalize=True)
            return True
        if ear.judged - self._step_at >= STEP and not over:
            await self._step()
            return True
        return ear.behind

    async def close(self, *, speech_final: bool, from_finalize: bool = False) -> None:
        """End the utterance, if there is one: the accurate pass decides what is not final yet, and nothing else."""
        ear = self.ear
        if not ear.speaking:
            return
        sound = ear.utterance()
        result = await self._hear(sound, live=False)
        final = self._agreement.close(_words(result), sound.start)
        ear.close()
        self._step_at = ear.judged
        self.heard_to = max(self.heard_to, sound.end)
        last = max(self._agreement.end, sound.start)
        if final:
            await self._final(final, result, ear.started, speech_final=speech_final, from_finalize=from_finalize)
        elif from_finalize:
            await self._nothing_more(ear.judged)
        if speech_final:
            self._ended = last, sound.end
            await self._utterance_ended(sound.end)
        await self._settle(sound)

    async def end(self) -> None:
        """Close what there is: nothing will come any more."""
        await self.close(speech_final=True)
        await self._utterance_ended(self.ear.judged, at_once=True)

    async def _utterance_ended(self, position: float, *, at_once: bool = False) -> None:
        """Say that an utterance is over, if nobody has gone on for as long as the client wants to wait for it."""
        wait = (self._session.live.utterance_end_ms or 0) / 1000
        if self._ended is not None and (at_once or not wait or position - self._ended[0] >= wait):
            (last, known), self._ended = self._ended, None
            await self._say_end(max(position, known), last)

    async def _say_end(self, position: float, last: float, *, from_finalize: bool = False) -> None:
        await self._told.say(
            UtteranceEnd(
                position=round(position, 3),
                last_word_end=round(last, 3),
                from_finalize=from_finalize,
                done=self._intake.done,
            )
        )

    async def _step(self) -> None:
        sound = self.ear.utterance()
        self._step_at = sound.end
        result = await self._hear(sound, live=True)
        self.heard_to = max(self.heard_to, sound.end)
        # What may be invented decides nothing: the next hypothesis or the accurate pass does.
        agreement = self._agreement
        final = [] if result.suspect else agreement.hear(_words(result), sound.end, sound.start)
        if final:
            await self._final(final, result, sound.start)
        pending = agreement.pending
        if self._session.live.interim_results and (pending or not final):
            await self._told.say(
                Interim(
                    position=round(sound.end, 3),
                    start=pending[0].start if pending else round(agreement.end, 3),
                    end=pending[-1].end if pending else round(agreement.end, 3),
                    text="".join(word.word for word in pending),
                    words=pending if self._session.options.word_timestamps else (),
                )
            )
        await self._settle(sound)

    async def _final(
        self,
        words: list[Word],
        result: WindowResult,
        resume: float,
        *,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        await self._told.final(
            words,
            result,
            input=self._intake.input_at(resume),
            done=self._intake.done,
            resume=resume,
            speech_final=speech_final,
            from_finalize=from_finalize,
        )
        self._marked = resume

    async def _mark(self) -> None:
        """Write down that what was silent need not be heard again, should another engine have to go on."""
        resume = self.ear.started
        position = round(self.ear.judged, 3)
        await self._told.say(Quiet(position=position, input=self._intake.input_at(resume), resume=round(resume, 3)))
        self._marked = self.ear.judged
        await self._settle(Sound(b"", self.ear.judged))

    async def _nothing_more(self, position: float) -> None:
        """An answer to `finalize` where nothing is left to be made final."""
        await self._say_end(position, self._agreement.end, from_finalize=True)

    async def _settle(self, sound: Sound) -> None:
        """After anything that was heard: how far behind we are, and what it costs."""
        await self._told.lagging(self.heard_to, await self._behind())
        await self._minutes.reserve(sound.end)

    async def _behind(self) -> float:
        """Seconds of sound that arrived and are not heard; what waits in the stream is asked for."""
        decoded = self.ear.arrived
        now = asyncio.get_running_loop().time()
        # A lag that was told is not over before the stream says so: what is decoded may be heard as fast as it comes.
        if decoded - self.heard_to < ASK and self._told.lag < TELL_LAG:
            self._waiting = 0.0
        elif now - self._asked_at >= ASK:
            self._asked_at = now
            with suppress(Unavailable):
                self._waiting = await self._intake.arrived(decoded)
        return max(0.0, max(decoded, self._waiting) - self.heard_to)

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
        tried = deaths = 0
        while True:
            try:
                with self._load.measuring():
                    [result] = await self._engine.transcribe([window], task, urgent=True)
            except EngineDied as error:
                self._log.warning("the engine died on a live session", job=self._session.session, cause=error.cause)
                tried, deaths = tried + (not error.innocent), deaths + 1
                if tried == TRIES or deaths == DEATHS:
                    raise Over(Code.ENGINE) from error
                await asyncio.sleep(AGAIN if error.innocent else 0)
                continue
            except EngineFailed as error:
                self._log.error("the engine cannot hear a live session", job=self._session.session, reason=error.reason)
                raise Over(Code.MODEL_AWAY if isinstance(error, ModelAway) else Code.ENGINE) from error
            if self._language is None and result.language and result.segments and not live:
                self._language = result.language
            return result


def _words(result: WindowResult) -> list[Word]:
    return [word for segment in result.segments for word in segment.words]
