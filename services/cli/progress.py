"""A line per file at a terminal, and nothing where nobody looks."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.cli.api import Job

WAITING = {"accepted": "waiting", "preparing": "decoding", "running": "hearing"}


class Lines:
    """How far each file is."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def say(self, name: str, job: Job | None, text: str | None = None) -> None:
        """Show where a file is: by its job, or in a word before there is one."""
        if self._progress is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=1.0, state="")
        state = text or _words(job) if job or text else ""
        done = 0.0 if job is None else float(job["progress"])
        self._progress.update(self._tasks[name], completed=done, state=state)


def _words(job: Job | None) -> str:
    if job is None:
        return ""
    state = str(job["state"])
    queue = job.get("queue")
    if queue and state == "accepted":
        return f"waiting, number {queue['position']}"
    return WAITING.get(state, state)


@contextmanager
def lines(quiet: bool) -> Iterator[Lines]:
    """Progress on standard error, if that is a terminal and nobody asked for quiet."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Lines(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield Lines(progress)
