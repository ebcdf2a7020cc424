"""Events on their way to one watcher: what was heard and not yet taken, in bounded memory."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from functools import cached_property

from nats.aio.msg import Msg

from services.contracts.events import Record
from services.contracts.stream import Cursor, Event, Kind
from services.ingest.views import job_view


@dataclass(frozen=True)
class Heard:
    """One event of a job. Many watchers share it, so what is sent of it is made once."""

    tenant: str
    job: str
    kind: Kind
    cursor: Cursor
    data: bytes

    @cached_property
    def record(self) -> Record | None:
        """The job's record, if this is a state."""
        return Record.model_validate_json(self.data) if self.kind is Kind.STATE else None

    @property
    def ends(self) -> bool:
        """Whether nothing of its job follows."""
        return self.record is not None and self.record.state.terminal

    @cached_property
    def text(self) -> str:
        """The message `Event`; the words go through as they are stored."""
        data = self.data.decode() if self.record is None else job_view(self.record).model_dump_json()
        head = {"type": Event.model_fields["type"].default, "job_id": self.job, "cursor": str(self.cursor)}
        return f'{json.dumps(head)[:-1]}, "kind": "{self.kind}", "data": {data}}}'


def heard(message: Msg, epoch: str) -> Heard:
    """The event in a message of the stream of results, relayed or read from it."""
    headers = message.headers or {}
    _, tenant, job, kind = headers["Nats-Subject"].split(".")
    return Heard(tenant, job, Kind(kind), Cursor(epoch, int(headers["Nats-Sequence"])), message.data)


class Backlog:
    """Bytes of events that one client may leave waiting, whatever it watches."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0

    def take(self, size: int) -> bool:
        """Room for so many bytes; False when there is none. One event of any size always fits."""
        if self._used and self._used + size > self._limit:
            return False
        self._used += size
        return True

    def give(self, size: int) -> None:
        """Room that is free again."""
        self._used -= size


class Follower:
    """The events of one watch that were heard and not yet taken.

    `behind`: some are not here and must be read from the stream; so it begins. `overflowed`: because there was no room.
    """

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._events: deque[Heard] = deque()
        self._rung = asyncio.Event()
        self.behind = True
        self.overflowed = False

    def hear(self, event: Heard) -> None:
        """Queue an event."""
        if self.behind:
            return  # it is in the stream, which will be read
        if self._backlog.take(len(event.data)):
            self._events.append(event)
            self._rung.set()
        else:
            self.overflowed = True
            self.lag()

    def lag(self) -> None:
        """Something is, or may be, missing."""
        self.behind = True
        self._drop()
        self._rung.set()

    def catch_up(self) -> None:
        """Queue from now on; whatever came before is then read from the stream."""
        self._drop()
        self.behind = self.overflowed = False

    def close(self) -> None:
        """Give back the room."""
        self._drop()

    async def next(self, timeout: float | None) -> Heard | None:
        """The oldest event, within `timeout` seconds; None when there is none, or when it fell behind."""
        if not self._events and not self.behind:
            self._rung.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._rung.wait()
            except TimeoutError:
                return None
        if not self._events:
            return None
        event = self._events.popleft()
        self._backlog.give(len(event.data))
        return event

    def _drop(self) -> None:
        for event in self._events:
            self._backlog.give(len(event.data))
        self._events.clear()
