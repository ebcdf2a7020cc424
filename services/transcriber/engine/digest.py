"""The fake engine: answers with digests of the samples it heard, through the same child process and protocol.

One segment per window, with one word: ` FIRST-LAST:SUM`, where FIRST and LAST are the positions of the window's first
and last sample in the recording and SUM the first 16 characters of the SHA-256 of its PCM. So a test can prove that
nothing was lost, swapped or heard twice. Deterministic; it needs no weights, and every model of the catalogue loads.

Directives for tests, as words of `Task.prompt`:

| word | effect |
|---|---|
| `crash` | the process aborts on the first window |
| `hang` | the first window never ends |
| `fail` | every window comes back as `failed` |
| `refuse` | the request fails, as when a model does not load |
| `suspect` | every window is marked as suspect |
| `cells` | not one word, but one for each whole quarter of a second of the recording that lies in the window |

`crash@N`, `hang@N` and `fail@N` do so only on the window that holds the sample N of the recording.
`cells` is for live speech, where one stretch of sound is heard again and again while it grows: the same cell is the
same word in every window that holds it, and a cell that was cut in two is in none.
The setting `digest_speed` makes each worker hear so many seconds of audio in a second; 0 is as fast as it can.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from services.contracts.parts import SAMPLE_RATE
from services.contracts.transcript import Segment, Word
from services.transcriber.engine.hearer import Step
from services.transcriber.engine.protocol import EngineFailed, Task, Window, WindowResult

LANGUAGE = "en"
CELL = 4_000
"""Samples of a cell."""


class DigestHearer:
    """Hears sums."""

    def __init__(self, speed: float) -> None:
        self._speed = speed

    def hear(self, windows: list[Window], task: Task, folder: Path, step: Step) -> list[WindowResult]:
        """One word for each window."""
        step("started")
        if "refuse" in (task.prompt or "").split():
            raise EngineFailed("refused, as the prompt asks")
        return [self._one(window, task, step) for window in windows]

    def detect(self, windows: list[Window], model: str, folder: Path, step: Step) -> tuple[str, float]:
        """Always English, for certain."""
        step("started")
        return LANGUAGE, 1.0

    def load(self, model: str, folder: Path, step: Step) -> None:
        """There is nothing to load."""
        step("started")

    def _one(self, window: Window, task: Task, step: Step) -> WindowResult:
        orders = set(_orders(task.prompt or "", window))
        if "crash" in orders:
            os.abort()
        while "hang" in orders:
            time.sleep(1)
        if self._speed:
            time.sleep(window.seconds / self._speed)
        step("step")
        language = task.language or LANGUAGE
        if "fail" in orders:
            return WindowResult(window.start, window.end, language=language, failed="asked")
        pieces = cells_of(window) if "cells" in orders else [window]
        if not pieces:
            return WindowResult(window.start, window.end, language=language)
        words = tuple(
            Word(word=" " + digest_of(piece), start=piece.start, end=piece.end, probability=1.0) for piece in pieces
        )
        text = "".join(word.word for word in words)
        reason = "asked" if "suspect" in orders else None
        segment = Segment(
            start=window.start,
            end=window.end,
            text=text,
            words=words if task.word_timestamps else (),
            language=language,
            suspect=reason,
        )
        return WindowResult(
            window.start, window.end, (segment,), language=language, suspect=reason is not None, reason=reason
        )


def digest_of(window: Window) -> str:
    """The word that the digest engine hears in a window."""
    last = window.first_sample + len(window.pcm) // 2 - 1
    return f"{window.first_sample}-{last}:{hashlib.sha256(window.pcm).hexdigest()[:16]}"


def cells_of(window: Window) -> list[Window]:
    """The cells of the recording that lie in a window as a whole."""
    first = -(-window.first_sample // CELL)
    last = (window.first_sample + len(window.pcm) // 2) // CELL
    offset = 2 * window.first_sample
    return [
        Window(window.pcm[2 * n * CELL - offset : 2 * (n + 1) * CELL - offset], n * CELL / SAMPLE_RATE)
        for n in range(first, last)
    ]


def _orders(prompt: str, window: Window) -> Iterator[str]:
    for word in prompt.split():
        order, _, at = word.partition("@")
        samples = range(window.first_sample, window.first_sample + len(window.pcm) // 2)
        if not at.isdecimal() or int(at) in samples:
            yield order
