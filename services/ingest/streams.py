"""Who holds a stream open: so many per tenant, and none longer than its key lives or this process serves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.stream import Close
from services.ingest.auth import Authenticator
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import cancel
from services.runtime.metrics import Metrics

VERIFY = 2.0
"""Seconds between two verifications of the keys of open streams: one may expire, or its revocation be missed."""
RETRY = 5.0
"""Seconds after which to come back when all of a tenant's streams are taken."""


class Ending(Enum):
    """Why the service ends a stream."""

    REVOKED = (Close.REVOKED, "revoked")
    STOPPING = (Close.STOPPING, "stopping")


class Stream:
    """One open stream: a socket, or a response of server-sent events."""

    def __init__(self, who: Claims, digest: str) -> None:
        self.who = who
        self.digest = digest
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def end(self, ending: Ending) -> None:
        """Have it end."""
        if not self._ended.done():
            self._ended.set_result(ending)

    async def run(self, name: str, *works: Coroutine[Any, Any, None]) -> Ending | None:
        """Do the stream's work until the first of `works` is done (None), or until the stream is ended.

        The others are cancelled. Raises what the works raised.
        """
        tasks = [asyncio.create_task(work, name=name) for work in works]
        try:
            ends: tuple[asyncio.Future[Any], ...] = (*tasks, self._ended)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        return self._ended.result() if self._ended.done() else None


class Streams:
    """All open streams of this process."""

    def __init__(self, auth: Authenticator, metrics: Metrics) -> None:
        self._auth = auth
        metrics.gauge("streams_open", "open sockets and responses of server-sent events").set_function(
            lambda: len(self._open)
        )
        self._open: set[Stream] = set()
        self._per_tenant: Counter[str] = Counter()
        self._stopping = False

    @asynccontextmanager
    async def open(self, who: Claims, digest: str) -> AsyncIterator[Stream]:
        """Hold a stream open for the key with this fingerprint. Raises `Problem` TOO_MANY_STREAMS, UNAVAILABLE."""
        if self._stopping:
            raise Problem(Code.UNAVAILABLE, "This process stops.", retry_after=1)
        if self._per_tenant[who.tenant] >= who.streams:
            raise Problem(Code.TOO_MANY_STREAMS, f"{who.streams} at once are allowed.", retry_after=RETRY)
        stream = Stream(who, digest)
        self._open.add(stream)
        self._per_tenant[who.tenant] += 1
        try:
            await self._auth.known(digest)  # it may have been revoked in between
            yield stream
        finally:
            self._open.discard(stream)
            self._per_tenant[who.tenant] -= 1
            if not self._per_tenant[who.tenant]:
                del self._per_tenant[who.tenant]

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def revoked(self, key_id: str) -> None:
        """End the streams of a key."""
        for stream in self._open:
            if stream.who.key_id == key_id:
                stream.end(Ending.REVOKED)

    def stop(self) -> None:
        """End all, and open none any more."""
        self._stopping = True
        for stream in self._open:
            stream.end(Ending.STOPPING)

    async def mind(self) -> None:
        """Verify the keys of open streams from time to time. While keys is away they stay open."""
        while True:
            await asyncio.sleep(VERIFY)
            for stream in list(self._open):
                try:
                    await self._auth.known(stream.digest)
                except Problem:
                    stream.end(Ending.REVOKED)
                except Unavailable:
                    break
