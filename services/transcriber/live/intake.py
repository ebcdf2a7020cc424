"""The input of a session on its way from the bus through the sandboxed decoder to the ear."""

import asyncio
import fcntl
import math
import os
import sys
import termios
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg

from services.contracts import subjects
from services.contracts.errors import Code
from services.contracts.live import ENDS, OFFSET, OP, Encoding, Op, Session
from services.contracts.parts import SAMPLE_RATE
from services.runtime.jsapi import read_last
from services.runtime.tail import Tail
from services.transcriber.live.recover import Past
from services.transcriber.prepare.media import FRAME, Block, MediaError
from services.transcriber.prepare.peaks import Peaks
from services.transcriber.prepare.sandbox import Sandbox

SETTLE = 0.3
"""Seconds in which what was sent before a `finalize` has come through the decoder."""
LOOK = 1.0
"""Seconds between two looks whether the client is still there."""
RAW = {
    Encoding.PCM_S16LE: "s16le",
    Encoding.PCM_F32LE: "f32le",
    Encoding.MULAW: "mulaw",
    Encoding.ALAW: "alaw",
}
"""FFmpeg's names of the encodings without a header."""

MP4 = b"ftyp"
"""Type of the box with which an MP4 begins. FFmpeg goes on with a second WebM or Ogg, and passes over a second MP4."""


@dataclass(slots=True)
class _Asked:
    """A `finalize`: its sequence in the input, and the seconds up to which all is to be final, if that is known."""

    sequence: int
    at: float
    written: int
    """Bytes that were handed to the decoder before it."""
    taken: float = math.inf
    """When the decoder had taken them, by the loop's clock."""


class Intake:
    """Reads the log of the input, decodes it from where the past ends, and hands blocks over.

    A container is read from its first byte, since its beginning says how; nothing comes of what lies before `resume`.
    """

    def __init__(self, nc: Client, sandbox: Sandbox, session: Session, past: Past, wake: Callable[[], None]) -> None:
        """`wake` is called when the client wants something."""
        live, after, resume = session.live, past.input, past.resume
        self._nc = nc
        self._wake = wake
        self._rate = live.bytes_per_second
        self._sandbox = sandbox
        self._session = session
        self._tail = Tail(nc, subjects.LIVE, subjects.live_audio(session.session), after if self._rate else 0)
        self._wanted = 0 if self._rate else round(resume * SAMPLE_RATE)
        frame = (live.encoding.bytes_per_sample or 1) * live.channels
        self._from = round(resume * live.sample_rate) * frame if self._rate else 0
        self._done = past.done
        self._marks: deque[tuple[int, int]] = deque([(after, 0)])
        self.start = self._from / self._rate if self._rate else resume
        """Seconds of the session at which the first block begins."""
        self.peaks = Peaks()
        """The waveform of what was decoded."""
        self.whole = not self._from and not self._wanted
        """Whether the sound is decoded from its first sample on, and so the waveform whole."""
        self._asked: deque[_Asked] = deque()
        self.ended = False
        self.cut = False
        """Whether there was more than a session may have."""
        self.heard_at = asyncio.get_running_loop().time()
        """When the client last gave a sign of life, by the loop's clock."""
        self.sequence = after
        """Sequence of the last message that was taken in."""
        self._fed = 0
        self._writing = False
        self._written = 0
        self._pipe: int | None = None
        """The end of the decoder's pipe that it reads from, while it does, and"""
        self._transport: asyncio.WriteTransport | None = None
        """the other one."""

    async def arrived(self, decoded: float) -> float:
        """Seconds that lie in the stream, read or not, of which `decoded` are decoded. Raises `Unavailable`.

        Of a container it is estimated by the bytes of what was decoded.
        """
        if not self._rate and decoded <= self.start:
            return decoded  # it is read again from its first byte, and has not come to where it is heard on
        last = await read_last(self._nc, subjects.LIVE, subjects.live_audio(self._session.session))
        if last is None:
            return decoded
        there = received(last)
        return there / self._rate if self._rate else decoded * there / max(1, self._fed)

    def input_at(self, seconds: float) -> int:
        """Sequence in the input up to which nothing is needed to hear on from `seconds`.

        Of a container: up to which operations were followed. Its sound is needed from the first byte on.
        """
        if not self._rate:
            return self.done
        while len(self._marks) > 1 and self._marks[1][1] <= seconds * self._rate:
            self._marks.popleft()
        return min(self._marks[0][0], self.done)

    @property
    def done(self) -> int:
        """Sequence in the input up to which operations have their answer."""
        return self._asked[0].sequence - 1 if self._asked else self.sequence

    @property
    def finalizing(self) -> bool:
        """Whether the client wants all that it has sent to be final, and has no answer yet."""
        return bool(self._asked)

    @property
    def finalize_at(self) -> float:
        """Seconds up to which it wants that, first of all; infinite where it does not, or that is not known."""
        return self._asked[0].at if self._asked else math.inf

    def to_finalize(self, judged: float, *, idle: bool, behind: bool, over: bool) -> bool:
        """Whether it is time for that answer, where sound is judged up to so many seconds; `over`: none will come.

        With raw samples when all that was sent before is judged; where the rest of it makes no whole frame, after
        `SETTLE` without sound. How much sound a container's bytes are is not known: what the decoder has made of them
        by `SETTLE` after it took the last.
        """
        if not self._asked:
            return False
        asked, now = self._asked[0], asyncio.get_running_loop().time()
        if math.isinf(asked.taken) and self._taken() >= asked.written:
            asked.taken = now
        settled = now - asked.taken >= SETTLE and (idle or (math.isinf(asked.at) and not behind))
        return settled or judged > asked.at - FRAME / SAMPLE_RATE or (over and not behind)

    def finalized(self) -> None:
        """It has its answer."""
        self._asked.popleft()

    def _taken(self) -> float:
        """Bytes that the decoder has taken; one that has ended takes no more."""
        if self._pipe is None or self._transport is None:
            return math.inf
        waiting = int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        return self._written - self._transport.get_write_buffer_size() - waiting

    async def blocks(self) -> AsyncGenerator[Block, None]:
        """Sound as it comes, until the client's end. Raises `MediaError` for what is no audio, `DecoderDied`."""
        reading, writing = os.pipe()
        self._pipe = reading
        live = self._session.live
        feeder: asyncio.Task[None] | None = None
        try:
            decoding = self._sandbox.listen(
                reading, RAW.get(live.encoding, ""), live.sample_rate, live.channels, wanted=self._wanted
            )
            async with decoding:
                feeder = asyncio.create_task(self._feed(writing), name="live input")
                writing = -1  # the feeder closes it
                async for block in decoding:
                    self.peaks.feed(block.pcm)
                    yield block
            self._pipe = None
            await self._until_ended(feeder)
        finally:
            self._pipe = None
            os.close(reading)
            if writing >= 0:
                os.close(writing)
            if feeder is not None:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)

    async def _until_ended(self, feeder: "asyncio.Task[None]") -> None:
        """Wait for the client's end after that of its recording. Raises `MediaError` for what comes between the two."""
        fed = self._fed
        while not feeder.done():
            await asyncio.wait([feeder], timeout=LOOK / 5)
            if self._fed > fed or self._writing:
                raise MediaError(Code.NOT_AUDIO, "Something came behind the end of the recording.")
        feeder.result()

    async def _feed(self, writing: int) -> None:
        """Write what comes into the decoder's pipe, and close it at the client's end."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(writing, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self._transport = transport
        try:
            async with self._tail:
                while not self.ended:
                    sound = bytearray()
                    for entry in await self._tail.next(LOOK):
                        self.heard_at = loop.time()
                        offset, op = int(entry.headers.get(OFFSET, 0)), entry.headers.get(OP)
                        if op == Op.FINALIZE and entry.sequence > self._done:
                            await self._write(writer, sound)
                            at = offset / self._rate if self._rate else math.inf
                            self._asked.append(_Asked(entry.sequence, at, self._written))
                            self._wake()
                        self.sequence = entry.sequence
                        end = offset + len(entry.data)
                        if self._rate:
                            self._marks.append((entry.sequence, end))
                        elif offset and entry.data[4:8] == MP4:
                            await self._write(writer, sound)  # what came before it is heard
                            raise MediaError(Code.NOT_AUDIO, "A second MP4 recording begins: open a session for each.")
                        if op in ENDS:
                            self.ended, self.cut = True, op == Op.LIMIT
                            break
                        if end > self._from and entry.data:
                            sound += entry.data[max(0, self._from - offset) :]
                            self._fed = end
                    await self._write(writer, sound)
        except ConnectionError:
            return  # the decoder has ended and says why
        finally:
            with suppress(OSError):
                writer.close()

    async def _write(self, writer: asyncio.StreamWriter, sound: bytearray) -> None:
        """Hand over what was collected, which is then no more."""
        if sound:
            writer.write(bytes(sound))
            self._written += len(sound)
            sound.clear()
            self._writing = True
            await writer.drain()
            self._writing = False


def received(last: Msg | None) -> int:
    """Bytes of audio that had come in with the last message of an input."""
    return int((last.headers or {}).get(OFFSET, 0)) + len(last.data) if last else 0
