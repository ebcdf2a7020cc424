"""A key-value bucket with compare-and-set, on raw JetStream messages.

nats-py's own class cannot set a time to live on an update and raises where a key has merely expired; three headers do.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import APIError

from services.contracts import subjects
from services.contracts.submit import TRACEPARENT
from services.runtime.failpoints import Failpoints
from services.runtime.jsapi import AWAY, Unavailable, read_batch, read_last, subject_counts

WRONG_LAST_SEQUENCE = (10071, 10164)
"""JetStream's error codes for a compare-and-set that another writer won."""

BATCH = 500
"""Keys that one batch read asks for."""


class Conflict(Exception):  # noqa: N818 - the word of the trade
    """Another writer was faster: read again and decide again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the revision that a compare-and-set must name."""

    value: bytes
    revision: int


class Kv:
    """One bucket. Raises `Conflict`, or `bus.Unavailable` when the server is away."""

    def __init__(self, nc: Client, js: JetStreamContext, bucket: str, failpoints: Failpoints) -> None:
        self._nc = nc
        self._js = js
        self._bucket = bucket
        self._fail = failpoints

    async def get(self, key: str) -> Entry | None:
        """The entry of a key; None when there is none (never was, deleted, expired)."""
        found = await self._read(key)
        if found is None or _deleted(found):
            return None
        return Entry(found.data, _sequence(found))

    async def create(self, key: str, value: bytes, ttl: float | None = None, trace: str | None = None) -> int:
        """Write a key that is not there; `ttl` in seconds, `trace` for the headers. Returns the revision.

        Raises `Conflict`.
        """
        try:
            return await self._write(key, value, 0, ttl, traced(trace))
        except Conflict:
            # A deleted key leaves a marker behind: the key is free, but its last sequence is not 0.
            marker = await self._marker(key)
            if marker is None:
                raise
            return await self._write(key, value, marker, ttl, traced(trace))

    async def update(
        self, key: str, value: bytes, revision: int, ttl: float | None = None, trace: str | None = None
    ) -> int:
        """Compare-and-set. Returns the new revision; raises `Conflict`."""
        return await self._write(key, value, revision, ttl, traced(trace))

    async def put(self, key: str, value: bytes, ttl: float | None = None) -> int:
        """Write, whatever is there."""
        return await self._write(key, value, None, ttl)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Remove a key (leaves a marker, which a later create sees through)."""
        await self._write(key, b"", revision, None, {"KV-Operation": "DEL"})

    async def keys(self, prefix: str | None) -> AsyncIterator[str]:
        """All keys below a prefix of whole tokens, deleted ones among them; in no order."""
        root = subjects.kv(self._bucket, "")
        pattern = subjects.kv(self._bucket, f"{prefix}.>" if prefix else ">")
        for subject in await subject_counts(self._nc, f"KV_{self._bucket}", pattern):
            yield subject.removeprefix(root)

    async def since(self, revision: int) -> AsyncIterator[tuple[str, Entry]]:
        """Every key that was written after `revision`, as it is now, the oldest change first; b"" if it was deleted.

        Reads in batches by direct get and leaves no consumer behind. Raises `Unavailable`.
        """
        root = subjects.kv(self._bucket, "")
        more = True
        while more:
            found, more = await read_batch(self._nc, f"KV_{self._bucket}", f"{root}>", revision, BATCH)
            for message in found:
                headers = message.headers or {}
                revision = int(headers["Nats-Sequence"])
                yield headers["Nats-Subject"].removeprefix(root), Entry(message.data, revision)

    async def _marker(self, key: str) -> int | None:
        """Revision of a key's deletion marker; None when the key is there, or was never there."""
        found = await self._read(key)
        return _sequence(found) if found is not None and _deleted(found) else None

    async def _read(self, key: str) -> Msg | None:
        return await read_last(self._nc, f"KV_{self._bucket}", subjects.kv(self._bucket, key))

    async def _write(
        self, key: str, value: bytes, last: int | None, ttl: float | None, headers: dict[str, str] | None = None
    ) -> int:
        headers = dict(headers or {})
        if last is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(last)
        if ttl is not None:
            headers["Nats-TTL"] = f"{max(1, round(ttl))}s"
        self._fail.hit("cas", self._bucket, "before")
        try:
            ack = await self._js.publish(subjects.kv(self._bucket, key), value, headers=headers or None, timeout=5)
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise Conflict(self._bucket) from error
            raise Unavailable("bus") from error
        except AWAY as error:
            raise Unavailable("bus") from error
        self._fail.hit("cas", self._bucket, "after")
        return ack.seq


def traced(trace: str | None) -> dict[str, str] | None:
    """The headers that carry a trace context."""
    return {TRACEPARENT: trace} if trace else None


def _sequence(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])


def _deleted(message: Msg) -> bool:
    return (message.headers or {}).get("KV-Operation") in ("DEL", "PURGE")
