"""A body on its way into the store: counted, hashed and checked while it passes, in constant memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator

from services.contracts.errors import Code, Problem

HASHED_AT_ONCE = 1 << 20
"""Bytes that are hashed in one go in a thread: two milliseconds of work, too long for the event loop."""


class Intake:
    """Hands a body through; `size` and `sha256` are right once it was read to its end.

    `length` (bytes) and `sha256` (hexadecimal) are what the client says of it, when it does. Raises `Problem` TOO_LARGE
    as soon as the limit is passed, and EMPTY, LENGTH_MISMATCH or CHECKSUM in place of a last chunk: whoever stores the
    body sees an error, and so keeps nothing of it.
    """

    def __init__(self, chunks: AsyncIterator[bytes], *, limit: int, length: int | None, sha256: str | None) -> None:
        if length == 0:
            raise Problem(Code.EMPTY)
        if length is not None and length > limit:
            raise too_large(limit)
        self.size = 0
        self.sha256 = ""
        self._chunks = chunks
        self._limit = limit
        self._length = length
        self._expected = sha256.lower() if sha256 else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        passed: list[bytes] = []
        waiting = 0
        async for chunk in self._chunks:
            self.size += len(chunk)
            if self.size > self._limit:
                raise too_large(self._limit)
            yield chunk
            passed.append(chunk)
            waiting += len(chunk)
            if waiting >= HASHED_AT_ONCE:
                await asyncio.to_thread(_update, digest, passed)
                passed, waiting = [], 0
        await asyncio.to_thread(_update, digest, passed)
        self.sha256 = digest.hexdigest()
        self._check()

    def _check(self) -> None:
        if self._length is not None and self.size != self._length:
            raise Problem(Code.LENGTH_MISMATCH, f"{self.size} of {self._length} bytes came in.")
        if self.size == 0:
            raise Problem(Code.EMPTY)
        if self._expected is not None and self.sha256 != self._expected:
            raise Problem(Code.CHECKSUM)


def too_large(limit: int) -> Problem:
    """The refusal of what is larger than `limit` bytes."""
    return Problem(Code.TOO_LARGE, f"At most {limit} bytes.", limit=limit)


def _update(digest: "hashlib._Hash", chunks: list[bytes]) -> None:
    for chunk in chunks:
        digest.update(chunk)


async def unless_failed(other: asyncio.Task[None], chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The chunks, broken off with the error of another task when that has failed."""
    async for chunk in chunks:
        if other.done():
            other.result()
        yield chunk
