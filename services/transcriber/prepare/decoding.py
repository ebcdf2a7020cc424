"""One recording in the sandbox, seen from outside: its samples, what it was, what became of its decoder."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from services.transcriber.prepare.media import (
    BLOCK_KIND,
    HEADER,
    INFO_KIND,
    MAX_FIELD,
    REFUSED_KIND,
    SAMPLE_RATE,
    WISH_KIND,
    Block,
    DecoderDied,
    MediaInfo,
    Order,
    unpack_block,
    unpack_info,
    unpack_refusal,
)
from services.transcriber.prepare.ranges import Ranges

END_SECONDS = 5.0  # for a killed process to be gone
URGENT_SECONDS = 60.0  # of audio, decoded at full priority
TICK = 1.0  # seconds between two looks at a decoder that lets us wait

Request = Callable[[Order, int, int, int], Awaitable[None]]
"""Has a decoder forked: what for, what it reads, where it writes, and a socket that stands for its life."""


class Decoding:
    """One recording being decoded: an asynchronous context manager, and inside it an asynchronous iterator of blocks.

    Leaving it early, by an exception or a cancellation too, kills the decoder. Raises MediaError for what is wrong
    with the recording and DecoderDied for what befell the decoder, and whatever the fetching of a range raises. After
    the last block `info` is there.
    """

    info: MediaInfo

    def __init__(self, request: Request, source: int | Ranges, order: Order) -> None:
        self._request = request
        self._source = source
        self._order = order
        self._limits = order.limits
        self._reader = asyncio.StreamReader(limit=1 << 17)
        self._decoded = order.wanted / SAMPLE_RATE  # that, too, may take its time
        self._looked = time.monotonic()
        self._is_nice = False
        self._over = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._life, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._life.setblocking(False)
        reading, writing = os.pipe()
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), os.fdopen(reading, "rb", buffering=0)
        )
        try:
            with theirs, os.fdopen(writing, "wb", buffering=0), contextlib.ExitStack() as stack:
                source = self._source
                fd = source if isinstance(source, int) else stack.enter_context(source.open()).fileno()
                await self._request(self._order, fd, writing, theirs.fileno())
            async with asyncio.timeout(self._limits.stall_seconds):
                pid = await loop.sock_recv(self._life, 32)
            if not pid:
                raise DecoderDied("the fork server died")
            self.pid = int(pid)
        except BaseException as error:
            await self._end()
            if isinstance(error, OSError):
                raise DecoderDied("the fork server does not answer") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block:
        try:
            while True:
                deadline = time.monotonic() + self._limits.stall_seconds
                kind, bits, *sizes = HEADER.unpack(await self._read(HEADER.size, deadline))
                if max(sizes) > MAX_FIELD:
                    raise ValueError("a record beyond its bounds")
                first, second = [await self._read(size, deadline) for size in sizes]
                if kind != WISH_KIND or isinstance(self._source, int):
                    break
                # However long the store takes: that is not the decoder's fault.
                await self._source.answer(first, self._limits.stall_seconds)
            if kind == BLOCK_KIND:
                block = unpack_block(bits, first, second)
                # Of a file with more than one channel the budget grows with each of them.
                self._decoded += len(block.pcm) / (2 * SAMPLE_RATE) * len(block.channels)
                self._make_way()
                return block
            if kind == REFUSED_KIND:
                raise unpack_refusal(first, second)
            if kind != INFO_KIND:
                raise ValueError("a record of no known kind")
            self.info = unpack_info(first)
        except asyncio.IncompleteReadError:
            raise DecoderDied(f"the decoder ended before its work: {await self._wait_for_end()}") from None
        except (ValueError, KeyError, TypeError) as error:  # one that talks nonsense has been taken over
            raise DecoderDied("the decoder answered nonsense") from error
        raise StopAsyncIteration

    async def _read(self, size: int, deadline: float) -> bytes:
        while True:
            try:
                async with asyncio.timeout(TICK):
                    data = await self._reader.readexactly(size)
                if time.monotonic() - self._looked > TICK:
                    self._check_budget()
                return data
            except TimeoutError:
                self._check_budget()
                if time.monotonic() > deadline:
                    raise DecoderDied("the decoder does not get on") from None

    def _make_way(self) -> None:
        """Somebody waits for a short clip; a long recording runs beside the engine and lets it go first."""
        if not self._limits.live and not self._is_nice and self._decoded > URGENT_SECONDS:
            self._is_nice = True
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self.pid, 10)

    def _check_budget(self) -> None:
        self._looked = time.monotonic()
        if cpu_seconds(self.pid) > self._limits.cpu_seconds + self._limits.cpu_share * self._decoded:
            raise DecoderDied("the decoder has used up its processor time")

    async def _wait_for_end(self) -> str:
        """How the decoder ended, in words; it has closed its pipe, so it is about to."""
        try:
            async with asyncio.timeout(END_SECONDS):
                status = await asyncio.get_running_loop().sock_recv(self._life, 32)
        except (TimeoutError, OSError):
            return "unknown"
        if not status:
            return "the fork server died"
        code = os.waitstatus_to_exitcode(int(status))
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    async def _end(self) -> None:
        """Kills the decoder if it still lives, and waits until it is gone."""
        if self._over:
            return
        self._over = True
        self._transport.close()
        if isinstance(self._source, Ranges):
            await self._source.close()
        with contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)  # what the server kills it for
            async with asyncio.timeout(END_SECONDS):
                while await asyncio.get_running_loop().sock_recv(self._life, 32):
                    pass
        self._life.close()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, proc(5); 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
