"""A job: what was asked for, where it came in, and the states it goes through."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of every stored message: immutable, unknown fields ignored so that an older process reads a newer one.

    What is wrong with one is said without its content: it may hold words and names, and errors are logged.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    def encode(self) -> bytes:
        """The canonical bytes: fields in order of definition, UTF-8, no white space."""
        return self.model_dump_json(exclude_none=True).encode()


class Lane(StrEnum):
    """How urgent a job is; the order of definition is the order of urgency."""

    LIVE = "live"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class Door(StrEnum):
    """The way by which a job came in."""

    HTTP = "http"
    DROP = "drop"
    NATS = "nats"
    LIVE = "live"


class State(StrEnum):
    """`accepted → preparing → running → completed | failed | cancelled`. Terminal is final.

    `erased` is a terminal job whose data the user had removed.
    """

    ACCEPTED = "accepted"
    PREPARING = "preparing"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ERASED = "erased"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows this state (but erasure)."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED, State.ERASED)


class Options(Frozen):
    """What the caller asked of the engine. Equal options on equal bytes are the same work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(max_length=200)]
    language: Annotated[str | None, Field(max_length=8, description="ISO 639-1 code; absent = detected")] = None
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: Annotated[str | None, Field(max_length=4000)] = None
    hotwords: Annotated[str | None, Field(max_length=2000)] = None
    temperature: Annotated[float | None, Field(ge=0, le=1)] = None
    beam_size: Annotated[int, Field(ge=1, le=10)] = 5
    word_timestamps: bool = True
    vad: bool = True
    suppress_tokens: Annotated[tuple[int, ...] | None, Field(max_length=500)] = None
    hallucination_silence_threshold: Annotated[float | None, Field(gt=0, le=30)] = None
    channels: Annotated[
        Literal["mixed", "separate"] | None,
        Field(description="separate: each channel has its own words; absent = mixed down to one"),
    ] = None
    channel_labels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")], ...] | None,
        Field(max_length=8, description="names of the separate channels, in their order, as `agent,customer`"),
    ] = None
    max_line_width: Annotated[int | None, Field(ge=10, le=200)] = None
    max_line_count: Annotated[int | None, Field(ge=1, le=10)] = None


class Manifest(Frozen):
    """`job.json`: written once at admission; with `source` it is all that is needed to do the job."""

    job: str
    tenant: str
    key_id: str
    user: str = Field(description="the tenant's label, as shown to its owner")
    door: Door
    lane: Lane
    options: Options
    sha256: str = Field(description="of the source, hexadecimal")
    size: int = Field(description="bytes of the source")
    name: str | None = Field(default=None, description="the client's file name; never logged")
    created: float = Field(description="Unix seconds of the admission")
    source_of: str | None = Field(default=None, description="the job whose recording this one does again")
    callback_url: str | None = Field(default=None, description="who is told of the end; never logged")
    callback_include: Literal["transcript"] | None = None
    external_id: str | None = Field(default=None, description="the publisher's own id, of a job from the bus")
    traceparent: str | None = Field(default=None, description="the submitter's trace context, W3C")
    dropped: str | None = Field(default=None, description="key in the bucket `drop` that it came from; never logged")
    etag: str | None = Field(default=None, description="of that object")


class Failure(Frozen):
    """Why a job failed: a stable code, a sentence, and whether doing it again could help."""

    code: str
    message: str
    retryable: bool = False


class Timings(Frozen):
    """Unix seconds; absent while not reached."""

    accepted: float
    preparing: float | None = None
    started: float | None = Field(default=None, description="first window on the engine")
    finished: float | None = None


class Outcome(Frozen):
    """`outcome.json`: the one write that ends a job. Whoever writes it wins; the others read it."""

    job: str
    state: State
    sha256: str | None = Field(default=None, description="of transcript.json, for a completed job")
    failure: Failure | None = None
    seconds: float = Field(default=0.0, description="of audio that the job's owner is charged for")
    duration: float | None = None
    language: str | None = None
    timings: Timings
    door: Door | None = Field(default=None, description="of an erased job")
