"""The models in the engine child's memory: loaded when asked for, measured, and put away again."""

import contextlib
import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel

from services.transcriber.engine.hearer import Loaded, Step
from services.transcriber.engine.protocol import EngineFailed

SMALLER = {"float32": "int8", "float16": "int8_float16", "bfloat16": "int8_bfloat16"}
"""What to load instead when there is too little memory."""
_WARM_FRAMES = 1000


@dataclass(slots=True, eq=False)
class Model:
    """A model in memory. `users` counts the requests that are using it."""

    name: str
    whisper: WhisperModel
    compute_type: str
    bytes: int
    users: int = 0
    used: float = field(default_factory=time.monotonic)


class Shelf:
    """Holds models within `memory` bytes; the least recently used goes first, pinned ones stay.

    Costs are measured as the growth of the process while a model loads and warms up. `changed` is told of every model
    that comes or goes. Thread-safe; one model is loaded at a time.
    """

    def __init__(
        self,
        *,
        device: str,
        compute_type: str,
        workers: int,
        memory: int,
        idle_after: float,
        pinned: frozenset[str],
        changed: Callable[[list[Loaded]], None],
    ) -> None:
        self._device = device
        self._compute_type = compute_type
        self._workers = workers
        self._memory = memory
        self._idle_after = idle_after
        self._pinned = pinned
        self._changed = changed
        self._models: dict[str, Model] = {}
        self._types: dict[str, str] = {}
        self._free = threading.Condition()
        self._loading = threading.Lock()
        self._wanting_room = False
        threading.Thread(target=self._tidy, name="models", daemon=True).start()

    @contextlib.contextmanager
    def use(self, name: str, folder: Path, step: Step) -> Iterator[Model]:
        """A model, loaded if need be; it stays for as long as it is used."""
        model = self._taken(name) or self._load(name, folder, step)
        try:
            yield model
        finally:
            with self._free:
                model.users -= 1
                model.used = time.monotonic()
                self._free.notify_all()

    def shrink(self, name: str) -> bool:
        """Let a model be loaded with a smaller compute type from now on; False when there is none."""
        with self._free:
            smaller = SMALLER.get(self._types.get(name, self._chosen(name)))
            if smaller is None:
                return False
            self._types[name] = smaller
            self._free.wait_for(lambda: name not in self._models or not self._models[name].users)
            self._drop([name])
        return True

    def _taken(self, name: str) -> Model | None:
        with self._free:
            # Whoever waits for room must get it, also while others keep a model busy for ever.
            self._free.wait_for(lambda: not self._wanting_room or name in self._pinned)
            model = self._models.get(name)
            if model is not None:
                model.users += 1
            return model

    def _load(self, name: str, folder: Path, step: Step) -> Model:
        with self._loading:
            model = self._taken(name)
            if model is not None:
                return model
            step("loading")
            self._make_room((folder / "model.bin").stat().st_size)
            before = _trimmed()
            compute_type = self._chosen(name)
            try:
                whisper = WhisperModel(
                    str(folder),
                    device=self._device,
                    compute_type=compute_type,
                    cpu_threads=1,
                    num_workers=self._workers,
                    local_files_only=True,
                )
                _warm(whisper, self._workers)
            except (RuntimeError, ValueError, OSError, MemoryError) as error:
                raise EngineFailed(f"the model does not load: {type(error).__name__}") from error
            # Others at work make the measurement uncertain; published weights are float16, so half is the least.
            cost = max(_trimmed() - before, (folder / "model.bin").stat().st_size // 2)
            with self._free:
                model = self._models[name] = Model(name, whisper, compute_type, cost, users=1)
                self._tell()
            return model

    def _chosen(self, name: str) -> str:
        if name in self._types:
            return self._types[name]
        if self._compute_type != "auto":
            return self._compute_type
        return "float16" if self._device == "cuda" else "int8"

    def _make_room(self, needed: int) -> None:
        """Put models away until this much fits; waits for those in use, and holds back new users meanwhile."""
        with self._free:
            try:
                while self._models and self._held() + needed > self._memory:
                    away = [m for m in self._models.values() if not m.users and m.name not in self._pinned]
                    if away:
                        self._drop([min(away, key=lambda model: model.used).name])
                    elif all(name in self._pinned for name in self._models):
                        raise EngineFailed("the pinned models leave no memory for this one")
                    else:
                        self._wanting_room = True
                        self._free.wait()
            finally:
                self._wanting_room = False
                self._free.notify_all()
            if needed > self._memory:
                raise EngineFailed("this model needs more memory than models may take")

    def _held(self) -> int:
        return sum(model.bytes for model in self._models.values())

    def _drop(self, names: list[str]) -> None:
        for name in names:
            self._models.pop(name, None)
        _trimmed()
        self._tell()

    def _tell(self) -> None:
        self._changed([Loaded(model.name, model.bytes) for model in self._models.values()])

    def _tidy(self) -> None:
        """Put away what nobody has used for a time."""
        while True:
            time.sleep(min(self._idle_after / 4, 15.0))
            with self._free:
                limit = time.monotonic() - self._idle_after
                idle = [
                    model.name
                    for model in self._models.values()
                    if not model.users and model.used < limit and model.name not in self._pinned
                ]
                if idle:
                    self._drop(idle)


def _warm(whisper: WhisperModel, workers: int) -> None:
    """Make every worker hear a little silence, all at once: a worker's first batch is slower than the next ones."""
    features = np.zeros((1, whisper.model.n_mels, _WARM_FRAMES), dtype=np.float32)
    prompt = [whisper.hf_tokenizer.token_to_id("<|startoftranscript|>")]

    def once(_: int) -> None:
        encoded = whisper.encode(features)
        whisper.model.generate(encoded, [prompt], beam_size=5, max_length=8)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(once, range(workers)))


def _trimmed() -> int:
    """Give freed memory back to the system; returns the bytes of this process that are left.

    The allocator keeps what was freed unless it is asked (280 -> 124 MB after unloading base), and a model that is
    loaded into such memory would seem to cost nothing.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
