"""The engine's language: what is heard, how, what comes of it, and what can go wrong.

Everything else in this package depends on this module; the rest of the transcriber needs only this and `EngineProcess`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.contracts.parts import BYTES_PER_SECOND, SAMPLE_RATE
from services.contracts.transcript import Segment

LONGEST_WINDOW = 30.0
"""Seconds that Whisper's encoder has positions for (1500 of 20 ms)."""


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of audio that the model hears in one piece.

    `pcm` is s16le, 16 kHz, mono, at most 30 s; `start` is where its first sample lies in the recording, in seconds.
    """

    pcm: bytes
    start: float

    @property
    def seconds(self) -> float:
        """The window's length."""
        return len(self.pcm) / BYTES_PER_SECOND

    @property
    def end(self) -> float:
        """Where the window ends in the recording, in seconds."""
        return self.start + self.seconds

    @property
    def first_sample(self) -> int:
        """Index of the first sample in the recording."""
        return round(self.start * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Task:
    """How to hear windows. Windows of equal tasks may share a batch, whatever recording they come from.

    `model` is a name that `Engine.available` knows. `language` is a Whisper code, None lets the model decide once for
    the batch. `task` is `transcribe` or `translate`. `temperature` None is a beam search with a bounded, deterministic
    fallback for doubtful windows; a number above 0 samples, as seeded as CTranslate2 allows (docs/engine.md).
    `suppress_tokens` None stands for Whisper's non-speech symbols. `hallucination_silence_threshold` (seconds) drops
    improbable words that stand alone in at least that much silence; without it they are only marked. `live` hears a
    window as quickly as can be: a short frame, few tokens, no second hearing; what is heard again in half a second
    need not be heard twice now.
    """

    model: str
    language: str | None = None
    task: str = "transcribe"
    prompt: str | None = None
    hotwords: str | None = None
    temperature: float | None = None
    beam_size: int = 5
    word_timestamps: bool = True
    suppress_tokens: tuple[int, ...] | None = None
    hallucination_silence_threshold: float | None = None
    seed: int = 0
    live: bool = False


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What was heard in one window. Times are seconds in the recording, inside [start, end], and in order.

    `suspect` marks words that may be invented, `reason` says why; they are never deleted. `failed` is a short word
    without content for a window that the engine gave up; it then has no segments.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    suspect: bool = False
    reason: str | None = None
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as `GET /v1/models` shows it. `bytes` is its measured memory, None before its first load."""

    name: str
    available: bool
    multilingual: bool
    loaded: bool = False
    pinned: bool = False
    bytes: int | None = None
    source: str | None = None


class EngineError(Exception):
    """The engine could not do a request. `reason` holds no words of a recording."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineFailed(EngineError):  # noqa: N818 - what happened
    """The engine answered that it cannot: a model that does not load, or too little memory for one window."""


class ModelAway(EngineFailed):
    """The model has no weights here, or weights whose sum is wrong."""


class Cause(StrEnum):
    """Why an engine process ended."""

    CRASHED = "crashed"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    OVERRAN = "overran"
    CLOSED = "closed"


class EngineDied(EngineError):  # noqa: N818 - what happened
    """The engine process ended with this request in flight. Doing it again is safe; the next request starts a new one.

    `innocent` is true when another request is known to be the reason, so that this one need not be counted against.
    """

    def __init__(self, cause: Cause, *, innocent: bool = False) -> None:
        super().__init__(f"the engine process ended: {cause.value}")
        self.cause = cause
        self.innocent = innocent


class EngineOverran(EngineDied):
    """This request took more engine time than its budget, or its model's load more than allowed: process killed."""

    def __init__(self) -> None:
        super().__init__(Cause.OVERRAN)


class Engine(Protocol):
    """What hears windows. Implemented by `EngineProcess`, with Whisper or with the digest engine behind it."""

    device: str
    """`cpu` or `cuda`."""
    slots: int
    """Batches that may usefully be in flight at once; more of them queue inside."""
    express: int
    """Workers kept free beside them for urgent batches."""

    @property
    def last_progress(self) -> float:
        """`time.monotonic()` of the last sign that the engine advanced on anything; -inf before the first."""
        ...

    @property
    def advancing(self) -> bool:
        """Whether a request is being worked on or a model loaded, within its budget or deadline."""
        ...

    async def transcribe(
        self, windows: Sequence[Window], task: Task, *, budget: float | None = None, urgent: bool = False
    ) -> list[WindowResult]:
        """Hear one batch; one result per window, in the order given. Cancelling the await is safe at any time.

        `budget` is in seconds of engine time: waiting for a slot and loading the model are not counted.
        Raises ModelAway, EngineFailed, EngineDied, EngineOverran.
        """
        ...

    async def detect_language(
        self, windows: Sequence[Window], model: str, *, budget: float | None = None, urgent: bool = False
    ) -> tuple[str, float]:
        """The language spoken in the first of these windows, as a Whisper code, and its probability."""
        ...

    async def load(self, model: str) -> ModelInfo:
        """Load and warm a model before anyone waits for it."""
        ...

    def models(self) -> list[ModelInfo]:
        """Every model that is known here, loaded or not."""
        ...

    def available(self, name: str) -> bool:
        """Whether the model's weights can be had; cheap, never blocks."""
        ...

    async def idle(self) -> None:
        """Wait until no engine process is left (`idle_after` seconds after the last request)."""
        ...

    async def close(self) -> None:
        """End the engine process; what is in flight fails with EngineDied."""
        ...
