"""How a process lives: signals, named tasks, drain. Every service's `__main__` is one call of `run`."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from services.runtime import logs
from services.runtime.settings import Settings

S = TypeVar("S", bound=Settings)


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
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


def run(service: str, settings: S, app: Callable[[S, Life], AbstractAsyncContextManager[None]]) -> None:
    """Run a service until SIGTERM or SIGINT; exits with 1 when a task of it died.

    `app` is the composition root: an async context manager that is ready when entered and drained when left.
    """
    logs.configure(service, settings.log_level, settings.log_format)

    async def main() -> bool:
        life = Life()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, life.stop.set)
        log = logs.get_logger()
        async with app(settings, life):
            log.info("ready")
            await life.wait()
            log.info("draining", reason="signal" if life.stop.is_set() else "task died")
        log.info("stopped")
        return life.died.is_set()

    with contextlib.suppress(KeyboardInterrupt):
        if asyncio.run(main()):
            sys.exit(1)
