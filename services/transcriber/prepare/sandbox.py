"""Untrusted recordings, decoded where they can do no harm: the transcriber's side of the fork server."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
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
    Block,
    DecoderDied,
    Limits,
    MediaInfo,
    Order,
    unpack_block,
    unpack_info,
    unpack_refusal,
)

START_SECONDS = 60.0  # imports on a slow disk, not decoding
END_SECONDS = 5.0  # for a killed process to be gone
URGENT_SECONDS = 60.0  # of audio, decoded at full priority
TICK = 1.0  # seconds between two looks at a decoder that lets us wait
FULL = frozenset({"no_new_privs", "landlock", "rlimits", "seccomp"})
LEAST = frozenset({"no_new_privs", "rlimits", "seccomp"})
# What the server sees of our environment: no credentials; one thread each, since a fork takes only one along; and
# ONNX Runtime's telemetry, which is a thread of its own, off.
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_SERVER = "services.transcriber.prepare.forkserver"


class SandboxTooWeak(RuntimeError):  # noqa: N818 - the sentence it makes
    """This machine cannot confine a decoder well enough, and the operator has not said that it may be so."""


class Sandbox:
    """Decodes any number of recordings at a time, each in a process of its own.

    The fork server behind it starts with `start()` and is started again when it has died. Raises SandboxTooWeak from
    `start()` unless the kernel gives at least system-call filters, or `allow_weak` is set.
    """

    def __init__(self, limits: Limits | None = None, *, allow_weak: bool = False) -> None:
        self._limits = limits or Limits()
        self._allow_weak = allow_weak
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self.layers: frozenset[str] = frozenset()
        """Which of `no_new_privs`, `landlock`, `rlimits`, `user`, `seccomp` hold; empty before the start."""

    @property
    def level(self) -> str:
        """`full`, `reduced` (no Landlock: only the filter of system calls keeps it from files) or `weak`."""
        return "full" if self.layers >= FULL else "reduced" if self.layers >= LEAST else "weak"

    async def start(self) -> None:
        """Starts the fork server and finds out how far it can be confined. Raises DecoderDied if it does not come."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._stop()
                await self._launch()

    async def close(self) -> None:
        """Ends the fork server and every decoder at work."""
        async with self._starting:
            await self._stop()

    def decode(self, fd: int, *, separate: bool = False) -> "Decoding":
        """Decodes an open, seekable file from its first byte; `fd` stays the caller's, who keeps it open meanwhile.

        With `separate` each channel has blocks of its own, else they are mixed.
        """
        return Decoding(self, fd, Order(self._limits, separate))

    def listen(self, fd: int, raw: str = "", rate: int = SAMPLE_RATE, channels: int = 1) -> "Decoding":
        """Decodes what is spoken into a pipe, as it comes; `raw` is FFmpeg's name of a format without a header."""
        live = replace(
            self._limits, live=True, raw=raw, raw_rate=rate, raw_channels=channels, stall_seconds=365 * 86_400.0
        )
        return Decoding(self, fd, Order(live))

    async def _launch(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    _SERVER,
                    str(theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    env=_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    cwd="/",
                    start_new_session=True,  # a Ctrl-C at the terminal is for us, and we let it go
                )
            async with asyncio.timeout(START_SECONDS):
                ready = await asyncio.get_running_loop().sock_recv(ours, 4096)
            if not ready:
                raise DecoderDied("the fork server did not come up")
        except BaseException as error:
            ours.close()
            await self._stop()
            if isinstance(error, OSError):  # a TimeoutError is one too
                raise DecoderDied("the fork server did not come up") from error
            raise
        self._control = ours
        self.layers = frozenset(json.loads(ready))
        if self.level == "weak" and not self._allow_weak:
            await self._stop()
            raise SandboxTooWeak(f"of {sorted(LEAST)}, only {sorted(self.layers)} hold here")

    async def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # its children die with it
            await self._process.wait()
            self._process = None

    async def request(self, order: Order, fd: int, out: int, life: int) -> None:
        """Has a decoder forked that reads `fd`, writes `out` and lives while the other end of `life` is open.

        Raises DecoderDied when there is no server to do it.
        """
        for again in (True, False):
            await self.start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [order.to_json()], [fd, out, life])
                return
            except ConnectionError as error:  # it died while nobody needed it
                if not again:
                    raise DecoderDied("the fork server died twice") from error
                await self.close()
            except BlockingIOError as error:  # hundreds of requests that nobody reads
                raise DecoderDied("the fork server does not answer") from error


class Decoding:
    """One recording being decoded: an asynchronous context manager, and inside it an asynchronous iterator of blocks.

    Leaving it early, by an exception or a cancellation too, kills the decoder. Raises MediaError for what is wrong
    with the recording and DecoderDied for what befell the decoder. After the last block `info` is there.
    """

    info: MediaInfo

    def __init__(self, sandbox: Sandbox, fd: int, order: Order) -> None:
        self._sandbox = sandbox
        self._fd = fd
        self._order = order
        self._limits = order.limits
        self._reader = asyncio.StreamReader(limit=1 << 17)
        self._decoded = 0.0
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
            try:
                await self._sandbox.request(self._order, self._fd, writing, theirs.fileno())
            finally:
                theirs.close()
                os.close(writing)
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
        deadline = time.monotonic() + self._limits.stall_seconds
        try:
            kind, bits, *sizes = HEADER.unpack(await self._read(HEADER.size, deadline))
            if max(sizes) > MAX_FIELD:
                raise ValueError("a record beyond its bounds")
            first, second = [await self._read(size, deadline) for size in sizes]
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
