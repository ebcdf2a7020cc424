"""What is known of a session from its stream: the finals that were given, and from where it is to be heard on."""

from dataclasses import dataclass, field

from nats.aio.client import Client
from pydantic import TypeAdapter

from services.contracts import subjects
from services.contracts.live import Ended, Final, Out
from services.runtime.jsapi import read_batch

BATCH = 500
OUT: TypeAdapter[Out] = TypeAdapter(Out)


@dataclass(slots=True)
class Past:
    """A session so far. `last` is the sequence of its last message, which whoever says the next one must name."""

    finals: list[Final] = field(default_factory=list)
    last: int = 0
    ended: Ended | None = None

    @property
    def resume(self) -> float:
        """Seconds from which it is heard on."""
        return self.finals[-1].resume if self.finals else 0.0

    @property
    def input(self) -> int:
        """Sequence in the input up to which nothing needs to be heard again."""
        return self.finals[-1].input if self.finals else 0


async def past_of(nc: Client, session: str) -> Past:
    """Read all that was said of a session. Raises `Unavailable`."""
    past, more = Past(), True
    while more:
        found, more = await read_batch(nc, subjects.LIVE, subjects.live_out(session), past.last, BATCH)
        for message in found:
            past.last = int((message.headers or {})["Nats-Sequence"])
            said = OUT.validate_json(message.data)
            if isinstance(said, Final):
                past.finals.append(said)
            elif isinstance(said, Ended):
                past.ended = said
    return past
