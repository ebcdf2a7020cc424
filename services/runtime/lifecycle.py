"""How a process lives: signals, named tasks, drain. Every service's `__main__` is one call of `run`."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from services.runtime import logs
from services.runtime.settings import BadSettings, Settings, read

S = TypeVar("S", bound=Settings)


CANCEL_AGAIN = 2.0
"""Seconds that a cancelled task has for its own end before it is cancelled once more."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until all have ended.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which nats-py is built on, swallows a cancellation that
    comes at the very moment at which what it waits for is there, and the task goes on as if nothing had been.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=CANCEL_AGAIN)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, so that nobody complains that it was not


class Tasks:
    """The background tasks of one owner: named, watched, cancelled and awaited together.

    A task that ends with an error stops the process: a half-dead service is worse than a restarted one.
    """

    def __init__(self, dead: asyncio.Event) -> None:
        self._dead = dead
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = logs.get_logger()

    def start(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start `work` as a named task that this owner awaits."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task died", task=task.get_name(), error=type(error).__name__, exc_info=error)
            self._dead.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await cancel(*self._tasks)


class Life:
    """The life of one process: `stop` is set by a signal or by a dead task."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.died = asyncio.Event()
        self.tasks = Tasks(self.died)

    async def wait(self) -> None:
        """Until it is time to go."""
        waits = [asyncio.create_task(event.wait(), name="life") for event in (self.stop, self.died)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def run(service: str, kind: type[S], app: Callable[[S, Life], AbstractAsyncContextManager[None]]) -> None:
    """Run a service until SIGTERM or SIGINT; exits with 1 when a task of it died, with 78 when its settings are wrong.

    `app` is the composition root: an async context manager that is ready when entered and drained when left. It may
    raise `BadSettings`, too.
    """
    try:
        settings = read(kind)
    except BadSettings as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.exit(os.EX_CONFIG)
    logs.configure(service, settings.log_level, settings.log_format)

    async def main() -> bool:
        life = Life()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, life.stop.set)
        log = logs.get_logger()
        async with app(settings, life):
            # What is there now stays. A full collection that walks it all holds up everything for a tenth of a second.
            gc.collect()
            gc.freeze()
            log.info("ready")
            await life.wait()
            log.info("draining", reason="signal" if life.stop.is_set() else "task died")
        log.info("stopped")
        return life.died.is_set()

    try:
        died = asyncio.run(main())
    except KeyboardInterrupt:
        return
    except BadSettings as wrong:
        # Found where they were used: a secret that fits nothing that is there.
        sys.stderr.write(f"{wrong}\n")
        sys.exit(os.EX_CONFIG)
    if died:
        sys.exit(1)
