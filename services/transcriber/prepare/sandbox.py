"""Untrusted recordings, decoded where they can do no harm: the transcriber's side of the fork server."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from dataclasses import replace

from services.transcriber.prepare.decoding import Decoding
from services.transcriber.prepare.media import SAMPLE_RATE, DecoderDied, Limits, Order
from services.transcriber.prepare.ranges import Ranges

START_SECONDS = 60.0  # imports on a slow disk, not decoding
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

    def decode(self, source: int | Ranges, *, separate: bool = False) -> Decoding:
        """Decodes a recording from its first byte; with `separate` each channel has blocks of its own, else all one.

        `source` is an open, seekable file, which stays the caller's, who keeps it open meanwhile; or what hands a
        recording out by ranges.
        """
        size = source.size if isinstance(source, Ranges) else None
        return Decoding(self.request, source, Order(self._limits, separate, size))

    def listen(
        self, fd: int, raw: str = "", rate: int = SAMPLE_RATE, channels: int = 1, *, wanted: int = 0
    ) -> Decoding:
        """Decodes what is spoken into a pipe, as it comes; `raw` is FFmpeg's name of a format without a header.

        The first block begins at the sample `wanted`, and holds what it would hold if everything were given.
        """
        live = replace(
            self._limits, live=True, raw=raw, raw_rate=rate, raw_channels=channels, stall_seconds=365 * 86_400.0
        )
        return Decoding(self.request, fd, Order(live, wanted=wanted))

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
