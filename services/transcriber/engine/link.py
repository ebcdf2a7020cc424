"""One life of the engine process: requests in flight, their deadlines, and what its death means for them."""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.transcriber.engine.pipe import Header, frame, receive
from services.transcriber.engine.protocol import Cause, EngineDied, EngineFailed, EngineOverran

STOP_WITHIN = 5.0


@dataclass(slots=True, eq=False)
class Request:
    """A request in flight. `timer` runs out when the child has worked on it, or loaded for it, too long."""

    answer: asyncio.Future[Any]
    budget: float | None
    timer: asyncio.TimerHandle | None = None
    working: bool = False


class Link:
    """One life of the engine process."""

    def __init__(self, process: Process, load_within: float) -> None:
        self._process = process
        self._load_within = load_within
        self._numbers = itertools.count(1)
        self._cause: Cause | None = None
        self._blamed: Request | None = None
        self._oom_kills = _oom_kills()
        self.requests: dict[int, Request] = {}
        self.loaded: set[str] = set()
        self.costs: dict[str, int] = {}
        self.last_progress = time.monotonic()
        self.reading = asyncio.create_task(self._read(), name=f"engine {process.pid}")

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, header: Header, payload: bytes, budget: float | None) -> Any:
        """Send a request and wait for its answer."""
        number = next(self._numbers)
        request = Request(asyncio.get_running_loop().create_future(), budget)
        if self.reading.done():
            raise EngineDied(Cause.CRASHED)
        self.requests[number] = request
        self.last_progress = time.monotonic()
        try:
            await self._send(frame({"id": number, **header}, payload))
            return await request.answer
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                self._stdin.write(frame({"id": number, "op": "cancel"}))
            raise
        finally:
            self._forget(number)

    async def stop(self) -> None:
        """End the process: its input ends, and a kill follows if it does not go."""
        self._cause = self._cause or Cause.CLOSED
        self._stdin.close()
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.shield(self.reading)
        except TimeoutError:
            self._kill()
            await self.reading

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None
        return self._process.stdin

    async def _send(self, data: bytes) -> None:
        # A pipe that breaks is seen by the reader too, which knows the cause and answers the request.
        with contextlib.suppress(ConnectionError):
            self._stdin.write(data)
            await self._stdin.drain()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while (found := await receive(self._process.stdout)) is not None:
                self._take(found[0])
        finally:
            code = await self._exit_code()
            cause = self._cause or self._cause_of(code)
            for request in list(self.requests.values()):
                if not request.answer.done():
                    request.answer.set_exception(self._death(request, cause))

    def _take(self, header: Header) -> None:
        self.last_progress = time.monotonic()
        if header["event"] == "models":
            self.loaded = {model["name"] for model in header["models"]}
            self.costs |= {model["name"]: model["bytes"] for model in header["models"]}
            return
        request = self.requests.get(header["id"])
        if request is None or request.answer.done():
            return
        match header["event"]:
            case "loading":
                self._limit(request, self._load_within)
            case "started":
                self._limit(request, request.budget)
            case "done":
                request.answer.set_result(header["result"])
            case "failed":
                request.answer.set_exception(EngineFailed(header["error"]))

    def _limit(self, request: Request, seconds: float | None) -> None:
        request.working = True
        if request.timer is not None:
            request.timer.cancel()
        loop = asyncio.get_running_loop()
        request.timer = None if seconds is None else loop.call_later(seconds, self._overran, request)

    def _overran(self, request: Request) -> None:
        self._cause = Cause.OVERRAN
        self._blamed = request
        self._kill()

    def _death(self, request: Request, cause: Cause) -> EngineDied:
        if request is self._blamed:
            return EngineOverran()
        innocent = self._blamed is not None or cause is Cause.CLOSED or not request.working
        return EngineDied(cause, innocent=innocent)

    def _cause_of(self, code: int) -> Cause:
        if code != -signal.SIGKILL:
            return Cause.CRASHED
        return Cause.OUT_OF_MEMORY if _oom_kills() > self._oom_kills else Cause.KILLED

    async def _exit_code(self) -> int:
        """Wait for the process, whose output has ended; it has a moment to go by itself."""
        try:
            async with asyncio.timeout(STOP_WITHIN):
                return await self._process.wait()
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _kill(self) -> None:
        # Not by the process's own method: that looks for an exit code first, and then nobody else learns it.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def _forget(self, number: int) -> None:
        request = self.requests.pop(number, None)
        if request is not None and request.timer is not None:
            request.timer.cancel()


def _oom_kills() -> int:
    """How often the kernel killed for memory in our control group; 0 where that cannot be told."""
    try:
        lines = Path("/sys/fs/cgroup/memory.events").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError):
        return 0
