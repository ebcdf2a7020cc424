"""Hears windows with Whisper: faster-whisper's pieces on CTranslate2, without `WhisperModel.transcribe`.

That method decodes, detects voice and computes features of a whole file before it yields, pads every window to 30 s
and cannot be interrupted. Here each window has its own features and a frame as long as the batch needs; between two
stages a cancelled request ends.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from services.transcriber.engine.encoding import FULL_FRAMES, HOP, Encoded, samples_of
from services.transcriber.engine.hearer import Step
from services.transcriber.engine.hearing import Hearing
from services.transcriber.engine.protocol import EngineFailed, Task, Window, WindowResult
from services.transcriber.engine.shelf import Model, Shelf

QUIET = 8
"""Largest sample (of 32768) of a window in which there is nothing to hear: -72 dB."""
CERTAIN = 0.5
"""Probability of a language at which no further audio is listened to (faster-whisper's default)."""

T = TypeVar("T")


class TooLittleMemory(Exception):  # noqa: N818 - what happened
    """Not even one window fits."""


class WhisperHearer:
    """Hears batches, with as little memory as there is."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def hear(self, windows: list[Window], task: Task, folder: Path, step: Step) -> list[WindowResult]:
        """One result per window, in order. Out of memory: half the batch, then a smaller compute type, then fail."""
        while True:
            try:
                with self._shelf.use(task.model, folder, step) as model:
                    step("started")
                    return self._hear(model, windows, task, step)
            except TooLittleMemory as error:
                if not self._shelf.shrink(task.model):
                    raise EngineFailed("there is too little memory for one window with this model") from error

    def detect(self, windows: list[Window], model: str, folder: Path, step: Step) -> tuple[str, float]:
        """The language of the first windows, full frame after full frame until it is certain."""
        with self._shelf.use(model, folder, step) as loaded:
            step("started")
            if not loaded.whisper.model.is_multilingual:
                return "en", 1.0
            samples = np.concatenate([samples_of(window) for window in windows])
            found: list[tuple[str, float]] = []
            for at in range(0, len(samples), FULL_FRAMES * HOP):
                encoded = Encoded.of(loaded, [samples[at : at + FULL_FRAMES * HOP]], FULL_FRAMES, step)
                found.append(encoded.languages()[0][0])
                if found[-1][1] > CERTAIN:
                    break
            language, probability = max(found, key=lambda one: one[1])
            return language, round(probability, 4)

    def load(self, model: str, folder: Path, step: Step) -> None:
        """Have the model in memory, warm."""
        with self._shelf.use(model, folder, step):
            step("started")

    def _hear(self, model: Model, windows: Sequence[Window], task: Task, step: Step) -> list[WindowResult]:
        audible = [window for window in windows if np.abs(samples_of(window)).max(initial=0) * 32768 >= QUIET]
        heard = halving(audible, lambda some: Hearing(model, task, step).hear(some))
        found = {id(window): result for window, result in zip(audible, heard, strict=True)}
        return [found.get(id(w)) or WindowResult(w.start, w.end, language=task.language) for w in windows]


def halving(items: Sequence[Window], work: Callable[[Sequence[Window]], list[T]]) -> list[T]:
    """Do the work on all items, and where memory runs out on half of them at a time, down to one."""
    if not items:
        return []
    try:
        return work(items)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        if len(items) == 1:
            raise TooLittleMemory from error
    middle = len(items) // 2
    return halving(items[:middle], work) + halving(items[middle:], work)


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "bad_alloc" in str(error)
