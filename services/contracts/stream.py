"""Streamed results: the messages of `/ws` and of server-sent events, their cursors and close codes.

Every message is one JSON object with a `type`. Live audio comes over the same socket: its messages have types of their
own (`contracts.live`), and binary frames are its audio.
"""

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Literal, Self

from pydantic import Field

from services.contracts.jobs import Frozen

PROTOCOL = "desifre.v1"
"""The WebSocket sub-protocol: what a server echoes of those that a client offers."""
ALL = "all"
"""In place of a job's id: every job of one's own."""
_CURSOR = re.compile(r"([0-9]{1,40})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader is: `<epoch>-<sequence>`. Opaque to clients, who send back the last one that they saw.

    The epoch is the time at which the stream of results was made: beyond it a sequence means nothing.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor; raises ValueError."""
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError("not a cursor")
        return cls(found[1], int(found[2]))


def epoch_of(created: str) -> str:
    """The epoch of a stream that was made at this time (RFC 3339): its digits."""
    return re.sub(r"\D", "", created)


class Kind(StrEnum):
    """What an event tells: the job's state, or the words of one part of it."""

    STATE = "state"
    SEGMENTS = "segments"


class Close(IntEnum):
    """Codes with which the service closes a socket."""

    STOPPING = 1001
    """This process stops: connect again, to any other, and watch again from the last cursors."""
    REVOKED = 4403
    """The key was revoked or has expired."""


class Watch(Frozen):
    """Client: stream the events of a job, or of `all` one's jobs, after the event with this cursor.

    Without `after` a job is told from its first event, `all` from now on. A second watch of the same replaces it.
    """

    type: Literal["watch"] = "watch"
    job_id: str
    after: str | None = None


class Unwatch(Frozen):
    """Client: no more events of this watch."""

    type: Literal["unwatch"] = "unwatch"
    job_id: str


class Ping(Frozen):
    """Client: is anybody there?"""

    type: Literal["ping"] = "ping"


class Watching(Frozen):
    """Server: a watch begins, or begins anew from the start because the stream of results was made anew."""

    type: Literal["watching"] = "watching"
    job_id: str
    after: str | None = Field(
        default=None, description="the cursor it goes on from; null: from the start, forget what came before"
    )
    job: dict[str, Any] | None = Field(
        default=None,
        description="the job as GET /jobs/{job} shows it, without `queue`, `name` and `source_of`; null for all",
    )


class Event(Frozen):
    """Server: something happened to a job."""

    type: Literal["event"] = "event"
    job_id: str
    cursor: str
    kind: Kind
    data: dict[str, Any] = Field(
        description="state: the job as GET /jobs/{job} shows it, without `queue`, `name` and `source_of`; "
        "segments: the words of one part"
    )


class Unwatched(Frozen):
    """Server: this watch is over, as asked."""

    type: Literal["unwatched"] = "unwatched"
    job_id: str


class Resync(Frozen):
    """Server: you read too slowly, so this watch is over. Watch again with this `after`: nothing will be missing."""

    type: Literal["resync"] = "resync"
    job_id: str
    after: str | None = None


class Error(Frozen):
    """Server: a message, or the watch of `job_id`, came to nothing. The socket stays open."""

    type: Literal["error"] = "error"
    code: str
    title: str
    detail: str | None = None
    remedy: str
    job_id: str | None = None
    retry_after: float | None = Field(default=None, description="seconds")


class Closing(Frozen):
    """Server: the last message before the socket is closed with this code."""

    type: Literal["closing"] = "closing"
    code: int
    reason: Literal["revoked", "stopping"]


class Pong(Frozen):
    """Server: yes."""

    type: Literal["pong"] = "pong"
