"""A recording in the store, handed to its decoder by ranges: no copy on a disk, and no wait for its last byte."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from services.transcriber.prepare.media import ASKED, DecoderDied, readings, unpack_wish

Fetch = Callable[[int, int], Awaitable[bytes]]
"""The bytes of a recording: from which on, and how many."""


class Ranges:
    """Answers what one decoder asks for; holds two pieces at most, the one asked for and the one after it."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        """`size` in bytes, as the store has it."""
        self._fetch = fetch
        self._left = readings(size)
        self._last: int | None = None
        self._ahead: tuple[int, asyncio.Task[bytes]] | None = None
        self._ours: socket.socket | None = None
        self.size = size

    def open(self) -> socket.socket:
        """Where the decoder reads its answers: it cannot write there."""
        self._ours, theirs = socket.socketpair()
        self._ours.setblocking(False)
        theirs.shutdown(socket.SHUT_WR)
        return theirs

    async def answer(self, wish: bytes, patience: float) -> None:
        """Fetch what a wish asks for and hand it over, within `patience` seconds from then on.

        Raises ValueError for what is no wish, DecoderDied, and whatever the fetching raises.
        """
        offset = unpack_wish(wish, self.size)
        self._left -= 1
        if self._left < 0:
            raise ValueError("more wishes than a decoder has")
        piece = await self._piece(offset)
        assert self._ours is not None
        try:
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_sendall(self._ours, piece)
        except TimeoutError:
            raise DecoderDied("the decoder does not read what it asked for") from None
        except ConnectionError:
            return  # it has ended: its pipe says how

    async def _piece(self, offset: int) -> bytes:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == offset:
            piece = await ahead[1]
        else:
            await _drop(ahead)
            piece = await self._get(offset)
        # A first piece is often all that is wanted, and a jump is rarely followed by what comes after it.
        if self._last == offset - ASKED and offset + ASKED < self.size:
            self._ahead = (offset + ASKED, asyncio.create_task(self._get(offset + ASKED), name="range ahead"))
        self._last = offset
        return piece

    async def _get(self, offset: int) -> bytes:
        return await self._fetch(offset, min(ASKED, self.size - offset))

    async def close(self) -> None:
        """The decoder has ended."""
        ahead, self._ahead = self._ahead, None
        await _drop(ahead)
        if self._ours is not None:
            self._ours.close()


async def _drop(ahead: tuple[int, asyncio.Task[bytes]] | None) -> None:
    if ahead is not None:
        ahead[1].cancel()
        await asyncio.gather(ahead[1], return_exceptions=True)
