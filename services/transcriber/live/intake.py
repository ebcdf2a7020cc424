"""The input of a session on its way from the bus through the sandboxed decoder to the ear."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

from nats.aio.client import Client

from services.contracts import subjects
from services.contracts.live import OFFSET, OP, Encoding, Op, Session
from services.contracts.parts import SAMPLE_RATE
from services.runtime.tail import Tail
from services.transcriber.prepare.media import FRAME, Block
from services.transcriber.prepare.sandbox import Sandbox

LOOK = 1.0
"""Seconds between two looks whether the client is still there."""
RAW = {
    Encoding.PCM_S16LE: "s16le",
    Encoding.PCM_F32LE: "f32le",
    Encoding.MULAW: "mulaw",
    Encoding.ALAW: "alaw",
}
"""FFmpeg's names of the encodings without a header."""


class Intake:
    """Reads the log of the input from behind `after`, decodes from `resume` seconds on, and hands blocks over.

    A container is decoded from its first byte, since its beginning says how; what lies before `resume` is dropped.
    """

    def __init__(self, nc: Client, sandbox: Sandbox, session: Session, after: int, resume: float) -> None:
        live = session.live
        self._rate = live.bytes_per_second
        self._sandbox = sandbox
        self._session = session
        self._tail = Tail(nc, subjects.LIVE, subjects.live_audio(session.session), after if self._rate else 0)
        self._resume = resume
        frame = (live.encoding.bytes_per_sample or 1) * live.channels
        self._from = int(resume * live.sample_rate) * frame if self._rate else 0
        self._marks: deque[tuple[int, int]] = deque()
        self.start = self._from / self._rate if self._rate else resume
        """Seconds of the session at which the first block begins."""
        self.finalize = asyncio.Event()
        """Set when the client wants all that it sent to be final."""
        self.received = resume
        """Seconds that have come in, as far as the encoding tells."""
        self.ended = False
        self.heard_at = asyncio.get_running_loop().time()
        """When the client last gave a sign of life, by the loop's clock."""
        self.sequence = after
        """Sequence of the last message that was taken in."""

    def input_at(self, seconds: float) -> int:
        """Sequence in the input up to which nothing is needed to hear on from `seconds`."""
        if not self._rate:
            return 0
        while len(self._marks) > 1 and self._marks[1][1] <= seconds * self._rate:
            self._marks.popleft()
        return self._marks[0][0] if self._marks and self._marks[0][1] <= seconds * self._rate else 0

    async def blocks(self) -> AsyncIterator[Block]:
        """Sound as it comes, until the client's end. Raises `MediaError` for what is no audio, `DecoderDied`."""
        reading, writing = os.pipe()
        live = self._session.live
        feeder: asyncio.Task[None] | None = None
        try:
            decoding = self._sandbox.listen(reading, RAW.get(live.encoding, ""), live.sample_rate, live.channels)
            async with decoding:
                feeder = asyncio.create_task(self._feed(writing), name="live input")
                writing = -1  # the feeder closes it
                skip = round(self._resume * SAMPLE_RATE) if not self._rate else 0
                async for block in decoding:
                    samples = len(block.pcm) // 2
                    if skip >= samples:
                        skip -= samples
                        continue
                    frames, skip = skip // FRAME, 0  # `resume` lies between two frames
                    yield Block(block.pcm[frames * FRAME * 2 :], block.speech[frames:])
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
            if feeder is not None:
                feeder.cancel()
                await asyncio.gather(feeder, return_exceptions=True)

    async def _feed(self, writing: int) -> None:
        """Write what comes into the decoder's pipe, and close it at the client's end."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(writing, "wb", buffering=0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        try:
            async with self._tail:
                while not self.ended:
                    for entry in await self._tail.next(LOOK):
                        self.heard_at = loop.time()
                        self.sequence = entry.sequence
                        offset, op = int(entry.headers.get(OFFSET, 0)), entry.headers.get(OP)
                        end = offset + len(entry.data)
                        if self._rate:
                            self._marks.append((entry.sequence, end))
                            self.received = end / self._rate
                        if op in (Op.END, Op.LOST):
                            self.ended = True
                            break
                        if op == Op.FINALIZE:
                            self.finalize.set()
                        if end > self._from and entry.data:
                            writer.write(entry.data[max(0, self._from - offset) :])
                            await writer.drain()
        except ConnectionError:
            return  # the decoder has ended and says why
        finally:
            with suppress(OSError):
                writer.close()
