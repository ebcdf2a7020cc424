"""One supervised process: started, watched until it is ready, started again when it dies, stopped for good."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from infra.stack.errors import StackError
from infra.stack.logs import append, copy_lines, tail
from infra.stack.probes import Probe
from infra.stack.restarts import LONGEST_DELAY, RestartPolicy

PROBE_INTERVAL = 0.05
HELP_INTERVAL = 2.0
LOG_LINES_SHOWN = 15
PR_SET_PDEATHSIG = 1
DEATHS_TOLERATED = 3
LAST_WORDS = 1.0
"""Seconds that the end of the log of a dead process may take to arrive."""
NOT_STARTED = 127
"""What a shell says for a program that could not be started."""


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting to restart"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. `stop_grace` is in seconds, from SIGTERM to SIGKILL."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ports: Mapping[str, int]
    ready: Probe
    ready_port: int
    ready_path: str
    stop_grace: float
    clean_up: Callable[[], None] = field(default=lambda: None)
    """Removes what a run that was killed leaves behind; called before and after every run."""
    beyond_help: Probe | None = None
    """Whether only another start helps, though it runs: asked every HELP_INTERVAL once it is ready, and then ended."""


def _die_with_parent() -> Callable[[], None]:
    """What a child does between fork and exec so that it never outlives a launcher that was killed.

    Linux alone has this; elsewhere a launcher killed by SIGKILL leaves its processes behind.
    """
    if sys.platform != "linux":
        return lambda: None
    # Loaded here, in the parent: a child of a process with threads should do as little as it can.
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Process:
    """Owns one child process and the task that supervises it."""

    def __init__(
        self,
        spec: Spec,
        log_path: Path,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_death: Callable[["Process"], None] = lambda _: None,
        on_line: Callable[[str, bytes], None] = lambda _, __: None,
        longest_delay: float = LONGEST_DELAY,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.state = State.STOPPED
        self.restarts = 0
        self.runs = 0
        """How often it was started: a way to tell one run from the next."""
        self.last_exit: int | None = None
        """As subprocess tells it: negative for a signal."""
        self.started_at: float | None = None
        """When the present run began, wall-clock seconds since the epoch; None while it does not run."""
        self._log_path = log_path
        self._on_change = on_change
        self._on_death = on_death
        self._on_line = partial(on_line, spec.name)
        self._child: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._once: Mapping[str, str] = {}
        self._longest_delay = longest_delay
        self._policy = RestartPolicy(longest_delay)
        self._wanted = False
        self._stillborn = 0
        self._ready_since: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether it is to run: it does, or is about to be started again."""
        return self._wanted

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.returncode is None else None

    def start(self, once: Mapping[str, str] | None = None) -> None:
        """Start it; `once` is environment for the first run alone: a restart does not carry it."""
        if self._wanted:
            raise StackError(f"{self.name} runs already.")
        self._wanted = True
        self._once = dict(once or {})
        self._policy = RestartPolicy(self._longest_delay)
        self._stillborn = 0
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole process group after the grace. Idempotent."""
        self._wanted = False
        if self._supervisor is None:
            return
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._child.wait(), self.spec.stop_grace)
            self._kill_group(self._child.pid)
            await self._supervisor
        else:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            await self._move(State.STOPPED)
        self._supervisor = None

    async def restart(self, once: Mapping[str, str] | None = None) -> None:
        """Stop in order and start again, ready when this returns."""
        await self.stop()
        self.start(once)
        await self.wait_ready()

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process alone; the supervisor starts it again when it dies of that."""
        if self._child is None or self._child.returncode is not None:
            raise StackError(f"{self.name} does not run.")
        self._child.send_signal(sig)

    async def wait_ready(self, timeout: float = 60.0) -> None:
        """Return when it is ready.

        Raises StackError, with the end of its log, after `timeout` seconds or DEATHS_TOLERATED deaths in a row
        none of which was preceded by readiness; after one that its settings caused.
        """
        await self._wait(lambda: self.state is State.READY or self._gave_up, timeout, "was not ready")
        if self._gave_up and self.last_exit == os.EX_CONFIG:
            raise self.complaint("does not start with these settings", lines=1)
        if self._gave_up:
            raise self.complaint(f"died {DEATHS_TOLERATED} times before it was ready (exit code {self.last_exit})")

    async def wait_run(self, run: int, timeout: float = 60.0) -> None:
        """Return when run number `run` (see `runs`) is ready, or a later one."""
        await self._wait(lambda: self.runs >= run and self.state is State.READY, timeout, f"was not ready in run {run}")

    async def wait_exit(self, run: int, timeout: float = 60.0) -> int:
        """Return the exit code when run number `run` has ended; when a later one has too, that one's."""
        over = (State.WAITING, State.STOPPED)
        await self._wait(lambda: self.runs > run or (self.runs == run and self.state in over), timeout, "did not exit")
        assert self.last_exit is not None
        return self.last_exit

    @property
    def _gave_up(self) -> bool:
        # Settings that are wrong are as wrong the next time.
        return self._stillborn >= (1 if self.last_exit == os.EX_CONFIG else DEATHS_TOLERATED)

    def obituary(self) -> str:
        """How it ended last."""
        assert self.last_exit is not None
        if self.last_exit < 0:
            return f"was killed by {signal.Signals(-self.last_exit).name}"
        return f"exited with code {self.last_exit}"

    def describe(self) -> dict[str, object]:
        """What `status` shows of it."""
        return {
            "name": self.name,
            "state": str(self.state),
            "pid": self.pid,
            "ports": dict(self.spec.ports),
            "ready_port": self.spec.ready_port,
            "ready_path": self.spec.ready_path,
            "started_at": self.started_at,
            "restarts": self.restarts,
            "last_exit": self.last_exit,
        }

    def complaint(self, what: str, lines: int = LOG_LINES_SHOWN) -> StackError:
        """An error that says what is wrong with it and shows the end of its log."""
        end = tail(self._log_path, lines)
        shown = "\n".join(f"    {line}" for line in end) or "    (nothing)"
        return StackError(f"{self.name} {what}. The end of {self._log_path}:\n{shown}")

    async def _wait(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise self.complaint(f"{what} within {timeout:g} s") from None

    async def _supervise(self) -> None:
        while self._wanted:
            try:
                healthy_for = await self._run_once()
            except OSError as error:
                # No processes or no memory left: a reason to try again later, as any other death.
                append(self._log_path, f"could not be started: {error}")
                healthy_for, self.last_exit = None, NOT_STARTED
            if not self._wanted:
                break
            self.restarts += 1
            self._stillborn = self._stillborn + 1 if healthy_for is None else 0
            await self._move(State.WAITING)
            self._on_death(self)
            await asyncio.sleep(self._policy.delay_after(healthy_for))
        await self._move(State.STOPPED)

    async def _run_once(self) -> float | None:
        """Run it to its end; the seconds it was ready for, None if it never was."""
        self.spec.clean_up()
        env, self._once = {**self.spec.env, **self._once}, {}
        # Our own pipe: with asyncio's, wait() would wait for grandchildren that hold the other end.
        output, child_end = os.pipe()
        try:
            self._child = child = await asyncio.create_subprocess_exec(
                *self.spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=child_end,
                stderr=child_end,
                env=env,
                # Its own group: Ctrl-C reaches the launcher alone, which stops all in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(child_end)
        self.runs += 1
        self.started_at = time.time()
        await self._move(State.STARTING)
        pump = asyncio.create_task(copy_lines(output, self._log_path, self._on_line), name=f"log {self.name}")
        probe = asyncio.create_task(self._watch_readiness(), name=f"probe {self.name}")
        try:
            self.last_exit = await child.wait()
        finally:
            probe.cancel()
            # Its children (engine, decoders) are of no use without it, and hold memory and the log's pipe.
            self._kill_group(child.pid)
            # A grandchild that left the group may hold the pipe's other end for ever. In steps: where all of us stood
            # still for a second, the words are there and were not looked at yet.
            for _ in range(10):
                _, pending = await asyncio.wait((pump, probe), timeout=LAST_WORDS / 10)
                if not pending:
                    break
            pump.cancel()
            await asyncio.gather(pump, probe, return_exceptions=True)
            self.spec.clean_up()
            self.started_at = None
        ready_since, self._ready_since = self._ready_since, None
        return None if ready_since is None else time.monotonic() - ready_since

    async def _watch_readiness(self) -> None:
        while not await self.spec.ready():  # noqa: ASYNC110 - nothing tells us, we have to ask
            await asyncio.sleep(PROBE_INTERVAL)
        self._ready_since = time.monotonic()
        await self._move(State.READY)
        if self.spec.beyond_help is None:
            return
        while not await self.spec.beyond_help():  # noqa: ASYNC110 - as above
            await asyncio.sleep(HELP_INTERVAL)
        append(self._log_path, "ended: nothing but another start helps")
        self.kill()

    async def _move(self, state: State) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()
        self._on_change()

    @staticmethod
    def _kill_group(leader: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
