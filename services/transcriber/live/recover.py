"""What is known of a session from its stream: the finals that were given, and from where it is to be heard on."""

from dataclasses import dataclass, field

from nats.aio.client import Client
from pydantic import TypeAdapter

from services.contracts import subjects
from services.contracts.live import Ended, Final, Heard, Lag, Out, Quiet, SpeechStarted, UtteranceEnd
from services.runtime.jsapi import read_batch

BATCH = 500
OUT: TypeAdapter[Out] = TypeAdapter(Out)


@dataclass(slots=True)
class Past:
    """A session so far. `last` is the sequence of its last message, which whoever says the next one must name."""

    finals: list[Final] = field(default_factory=list)
    last: int = 0
    ended: Ended | None = None
    resume: float = 0.0
    """Seconds from which it is heard on."""
    input: int = 0
    """Sequence in the input up to which nothing needs to be heard again."""
    speaking: bool = False
    """Whether it is to be heard on in the middle of an utterance."""
    owed: Final | None = None
    """The final whose utterance is over, while that was not said."""
    done: int = 0
    """Sequence in the input up to which operations have their answer."""
    lag: float = 0.0
    """Seconds behind, as the client was told last."""

    @property
    def end(self) -> float:
        """Seconds at which the last final word ends."""
        return self.finals[-1].end if self.finals else 0.0

    @property
    def language(self) -> str | None:
        """What was spoken, as the last accurate pass heard it."""
        return next((final.segment.language for final in reversed(self.finals) if final.speech_final), None)

    def take(self, said: Heard, sequence: int) -> None:
        """Take in the next message of the session."""
        self.last = sequence
        if isinstance(said, Final):
            self.finals.append(said)
            self.speaking = not said.speech_final and not said.from_finalize
            self.owed = said if said.speech_final else None
        elif isinstance(said, UtteranceEnd | SpeechStarted):
            self.owed = None
        elif isinstance(said, Quiet):
            self.speaking = False
        elif isinstance(said, Lag):
            self.lag = said.seconds
        elif isinstance(said, Ended):
            self.ended = said
        if isinstance(said, Final | UtteranceEnd):
            self.done = max(self.done, said.done)
        if isinstance(said, Final | Quiet):
            self.resume, self.input = said.resume, said.input


async def past_of(nc: Client, session: str) -> Past:
    """Read all that was said of a session. Raises `Unavailable`."""
    past, more = Past(), True
    while more:
        found, more = await read_batch(nc, subjects.LIVE, subjects.live_out(session), past.last, BATCH)
        for message in found:
            past.take(OUT.validate_json(message.data), int((message.headers or {})["Nats-Sequence"]))
    return past
