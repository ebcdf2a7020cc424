"""What the engine child and its hearers agree on: the plan, the stages of a request, what a hearer can do."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from services.transcriber.engine.protocol import Task, Window, WindowResult

Step = Callable[[str], None]
"""Called between two stages of a request with `loading`, `started` or `step`; raises `Cancelled`."""


class Cancelled(Exception):  # noqa: N818 - what happened
    """Nobody waits for this request any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the parent decides for its child. `memory` in bytes and `models_idle_after` in seconds bound the models."""

    engine: str
    device: str
    compute_type: str
    workers: int
    memory: int
    models_idle_after: float
    pinned: tuple[str, ...]
    niceness: int
    digest_speed: float
    parent: int

    def encode(self) -> str:
        """As the child's only argument."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Plan":
        """From the child's only argument."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in the child's memory."""

    name: str
    bytes: int


class Hearer(Protocol):
    """What the child serves: Whisper, or the digest engine."""

    def hear(self, windows: list[Window], task: Task, folder: Path, step: Step) -> list[WindowResult]:
        """Hear one batch."""
        ...

    def detect(self, windows: list[Window], model: str, folder: Path, step: Step) -> tuple[str, float]:
        """The language spoken, and its probability."""
        ...

    def load(self, model: str, folder: Path, step: Step) -> None:
        """Have the model in memory, and warm."""
        ...
