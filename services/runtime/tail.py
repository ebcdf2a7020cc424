"""Follows one subject of a stream: what is stored, then what comes, each message once, in order and none left out.

Stored messages are read by direct get, which leaves no consumer behind; what comes is heard on the core subject to
which the stream republishes. A relayed message names the one before it on its subject, so that a gap shows and is read.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.contracts import subjects
from services.runtime.jsapi import AWAY, Unavailable, read_batch

BATCH = 200
"""Messages that one reading of the stream asks for."""
ROOM = 1 << 20
"""Bytes of relayed messages that wait for a slow reader; what is beyond is read from the stream when its turn comes."""
LOOK = 2.0
"""Seconds of silence after which the stream is read in any case: the last message may be the one that was lost."""
AGAIN = 0.25
"""Seconds between two tries while the bus is away."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored message: its sequence in the stream, its headers (the stream's own among them), its data."""

    sequence: int
    headers: Mapping[str, str]
    data: bytes


class Tail:
    """Follows `subject` of `stream` from behind the sequence `after`; an async context manager.

    The stream must republish the subject whole below `relay.`, and allow direct get.
    """

    def __init__(self, nc: Client, stream: str, subject: str, after: int = 0) -> None:
        self._nc = nc
        self._stream = stream
        self._subject = subject
        self.after = after
        """Sequence of the last message that was handed out."""
        self._came: deque[Entry] = deque()
        self._waiting = 0
        self._rung = asyncio.Event()
        self._behind = True
        self._look_at = 0.0
        self._relay: Subscription | None = None

    async def __aenter__(self) -> Self:
        while self._relay is None:
            try:
                self._relay = await self._nc.subscribe(f"{subjects.RELAY}.{self._subject}", cb=self._hear)
            except AWAY:
                await asyncio.sleep(AGAIN)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._relay is not None:
            with suppress(*AWAY):  # a connection that is closed has no subscriptions
                await self._relay.unsubscribe()

    async def next(self, timeout: float) -> list[Entry]:
        """All that is at hand, oldest first, as soon as there is something; empty after `timeout` seconds.

        While the bus is away it comes back empty too: what was stored meanwhile is handed out later.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            behind = self._behind or loop.time() >= self._look_at
            if found := (await self._stored() if behind else []) or self._relayed():
                self._look_at = loop.time() + LOOK
                return found
            if (left := until - loop.time()) <= 0:
                return []
            if self._behind:  # a gap was found just now, or the bus is away
                await asyncio.sleep(min(AGAIN, left) if behind else 0)
                continue
            self._rung.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, max(0.0, self._look_at - loop.time()))):
                    await self._rung.wait()

    async def _hear(self, message: Msg) -> None:
        if self._waiting > ROOM:
            self._behind = True
        else:
            entry = _entry(message)
            self._came.append(entry)
            self._waiting += len(entry.data)
        self._rung.set()

    async def _stored(self) -> list[Entry]:
        """The next stored messages; behind no more when there are none left."""
        try:
            found, more = await read_batch(self._nc, self._stream, self._subject, self.after, BATCH)
        except Unavailable:
            self._behind = True
            return []
        entries = [_entry(message) for message in found]
        if entries:
            self.after = entries[-1].sequence
        self._behind = more
        self._look_at = asyncio.get_running_loop().time() + LOOK
        return entries

    def _relayed(self) -> list[Entry]:
        """What was relayed since, up to a gap."""
        found: list[Entry] = []
        while self._came:
            entry = self._came[0]
            if entry.sequence > self.after:
                if int(entry.headers["Nats-Last-Sequence"]) > self.after:
                    self._behind = True
                    break
                self.after = entry.sequence
                found.append(entry)
            self._came.popleft()
            self._waiting -= len(entry.data)
        return found


def _entry(message: Msg) -> Entry:
    headers = message.headers or {}
    return Entry(int(headers["Nats-Sequence"]), headers, message.data)
