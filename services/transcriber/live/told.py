"""What a session says: messages on its subject of LIVE, each naming the one before it, and events of the job."""

from collections.abc import Sequence

from services.contracts import subjects
from services.contracts.events import SegmentsEvent
from services.contracts.live import Final, Heard, Lag, Session
from services.contracts.transcript import Segment, Word
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_last
from services.runtime.patience import until_there
from services.transcriber.engine.protocol import WindowResult
from services.transcriber.live.recover import Past

TELL_LAG = 1.0
"""Seconds behind from which on the client is told so."""


class Told:
    """Goes on saying where `past` ends. Every method waits for a bus that is away: sound waits in the stream meanwhile.

    Raises `Conflict` when another engine has said something meanwhile.
    """

    def __init__(self, bus: Bus, session: Session, past: Past) -> None:
        self._bus = bus
        self._session = session
        self._past = past
        self.lag = past.lag
        """Seconds behind, as it was measured last; at first as an engine before this one has told it."""

    async def again(self) -> None:
        """Say what whoever said the last message may have died before."""
        if self._past.finals:
            await self._event(self._past.finals[-1])

    async def final(
        self,
        words: Sequence[Word],
        result: WindowResult,
        *,
        input: int,  # noqa: A002 - as the message calls it
        done: int,
        resume: float,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        """Words that never change: on the session's subject, and as an event of its job."""
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
            input=input,
            done=done,
            resume=round(resume, 3),
        )
        await self.say(final)
        await self._event(final)

    async def lagging(self, position: float, lag: float) -> None:
        """Say how far behind the session is, when that has changed by much, and when it is over."""
        if (lag >= TELL_LAG and abs(lag - self.lag) >= TELL_LAG / 2) or (lag < TELL_LAG <= self.lag):
            await self.say(Lag(position=round(position, 3), seconds=round(lag, 2)))
        self.lag = lag

    async def say(self, said: Heard) -> None:
        """Publish the next message of the session."""
        subject = subjects.live_out(self._session.session)

        async def append() -> int:
            try:
                return await self._bus.append(subject, said.encode(), self._past.last)
            except Unavailable:
                # It may be stored all the same: then it is the last one, and must not be said twice.
                last = await read_last(self._bus.nc, subjects.LIVE, subject)
                if last is None or last.data != said.encode():
                    raise
                return int((last.headers or {})["Nats-Sequence"])

        self._past.take(said, await until_there(append))

    async def _event(self, final: Final) -> None:
        event = SegmentsEvent(
            job=self._session.session, part=final.n, start=final.start, end=final.end, segments=(final.segment,)
        )
        await until_there(lambda: self._bus.publish(subjects.segments(self._session.tenant, event.job), event))
