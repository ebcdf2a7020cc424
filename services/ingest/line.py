"""The writing end of a session's input: what was acknowledged lies on the bus, and any ingest goes on with it."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg

from services.contracts import subjects
from services.contracts.errors import Code, Problem
from services.contracts.live import CHUNK, CHUNK_BYTES, ENDS, LINE, OFFSET, OP, Op, Session
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable, read_last
from services.runtime.kv import Conflict

LASTS = 24 * 3600.0
"""Seconds by the clock after which a session is ended, however little was said: its stream keeps nothing for ever."""
CONTAINER_MOST = 192_000.0
"""Bytes a second of the longest session whose encoding does not tell: 16 bits of 48 kHz stereo."""
RESUMES = 5
"""Tries to go on with a session whose last ingest, killed or cut off, may have words of its own on their way."""


class Line:
    """Writes one session's input for one socket. The bus refuses whoever does not know its last word.

    Every message bears the line's own mark: by it the line knows a message of its own, of which it could not learn
    whether it was stored, from one of another socket that has gone on with the session.
    """

    def __init__(self, bus: Bus, session: Session, room: Callable[[], Awaitable[None]], *, warm: bool = True) -> None:
        """`room` raises `Problem` when the bus has none for more audio."""
        self.session = session
        self.warm = warm
        self.received = 0
        """Bytes of audio that are safe."""
        self.ended = False
        self._bus = bus
        self._room = room
        self._subject = subjects.live_audio(session.session)
        self._mark = secrets.token_hex(8)
        self._last = 0
        self._turn = asyncio.Lock()
        """Held while something is written."""

    async def take_over(self) -> None:
        """Go on from the last acknowledged byte. Raises `Problem` TAKEN where others do so at the same time."""
        for tried in range(1, RESUMES + 1):
            self._adopt(await self._read())
            if not self.ended:
                await self._room()  # or whoever is refused its audio would come back at once
            try:
                await self.say(Op.BEAT)
                return
            except Problem:
                if tried == RESUMES:
                    raise

    async def write(self, audio: bytes) -> None:
        """Put audio on the bus; when it returns nothing can lose it. Raises `Problem` TAKEN, SESSION_ENDED."""
        if self.ended or await self._outlived():
            raise Problem(Code.SESSION_ENDED)
        await self._room()
        rate = self.session.live.bytes_per_second
        size = min(CHUNK_BYTES, max(1024, int(rate * CHUNK))) if rate else CHUNK_BYTES
        left = int(self.session.max_seconds * (rate or CONTAINER_MOST)) - self.received
        for at in range(0, min(left, len(audio)), size):
            await self._append(audio[at : min(left, at + size)], None)
        if left < len(audio):
            await self._end(Op.LIMIT)
            raise Problem(Code.SESSION_ENDED)

    async def say(self, op: Op) -> None:
        """Put an operation behind the audio so far; behind the end nothing is asked for. Raises `Problem` TAKEN."""
        if not self.ended and not await self._outlived():
            await self._append(b"", op)
            self.ended = op in ENDS

    async def lost(self) -> bool:
        """Whether the session was ended because nothing came."""
        last = await self._read()
        return last is not None and (last.headers or {}).get(OP) == Op.LOST

    async def check(self) -> bool:
        """Whether there is such a session still; it may have gone with the bus. Raises `Problem` TAKEN, `Unavailable`.

        Who writes is refused after somebody else has written; who only listens learns of it here.
        """
        before = self._last
        last = await self._read()
        async with self._turn:  # what was just being written is known now
            if last is None:
                return not before
            headers = last.headers or {}
            self.ended = self.ended or headers.get(OP) in ENDS
            # What is known of the input stays: what this line would still write is refused.
            if int(headers["Nats-Sequence"]) > self._last and not self.ended and not self._mine(last):
                raise Problem(Code.TAKEN)
        return True

    async def _outlived(self) -> bool:
        """Whether the session has lasted for so long that it is ended here."""
        if time.time() - self.session.opened < LASTS:
            return False
        await self._end(Op.END)
        return True

    async def _end(self, op: Op) -> None:
        await self._append(b"", op)
        self.ended = True

    async def _append(self, audio: bytes, op: Op | None) -> None:
        async with self._turn:
            try:
                await self._append_next(audio, op)
            except Conflict:
                last = await self._read()
                # An operation of this line, given up for lost, may have come all the same: then this one follows it.
                if not self._mine(last):
                    self._refuse(last)
                self._adopt(last)
                if self.ended:
                    if op in ENDS:
                        return
                    raise Problem(Code.SESSION_ENDED) from None
                try:
                    await self._append_next(audio, op)
                except Conflict:
                    self._refuse(await self._read())

    async def _append_next(self, audio: bytes, op: Op | None) -> None:
        headers = {OFFSET: str(self.received), LINE: self._mark} | ({OP: op.value} if op else {})
        try:
            self._last = await self._bus.append(self._subject, audio, self._last, headers)
        except Unavailable:
            # It may be there all the same: then it must not be sent again.
            last, before = await self._read(), self.received
            if last is not None and not self._mine(last) and int((last.headers or {})["Nats-Sequence"]) > self._last:
                self._refuse(last)
            self._adopt(last)
            if self.received != before + len(audio) or op:
                raise
            return
        self.received += len(audio)

    def _refuse(self, last: Msg | None) -> None:
        """Somebody else has written."""
        self.ended = last is not None and (last.headers or {}).get(OP) in ENDS
        raise Problem(Code.SESSION_ENDED if self.ended else Code.TAKEN) from None

    async def _read(self) -> Msg | None:
        return await read_last(self._bus.nc, subjects.LIVE, self._subject)

    def _mine(self, last: Msg | None) -> bool:
        return last is not None and (last.headers or {}).get(LINE) == self._mark

    def _adopt(self, last: Msg | None) -> None:
        if last is not None:
            headers = last.headers or {}
            self._last = int(headers["Nats-Sequence"])
            self.received = int(headers[OFFSET]) + len(last.data)
            self.ended = headers.get(OP) in ENDS
