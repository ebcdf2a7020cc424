"""Events on `results.<tenant>.<job>.*`, and the record of which the state event is a copy."""

from pydantic import Field

from services.contracts.jobs import Door, Failure, Frozen, Lane, State, Timings
from services.contracts.live import LiveCard
from services.contracts.transcript import Segment


class Counters(Frozen):
    """Starts of work that ended badly, written before the work begins; keys are `prepare` and `part:<n>`.

    `crashes`: a decoder or engine child died or overran on it. `starts`: begun and not finished, whoever's fault.
    """

    starts: dict[str, int] = Field(default_factory=dict)
    crashes: dict[str, int] = Field(default_factory=dict)


class Record(Frozen):
    """A job's record: the quick view and the lock of its progress. Can be rebuilt from the objects.

    Its every change is the event `results.<tenant>.<job>.state`.
    """

    job: str
    tenant: str
    key_id: str
    door: Door
    lane: Lane
    model: str
    state: State
    size: int = 0
    parts: int = Field(default=0, description="parts known so far")
    sealed: bool = False
    done: str = Field(default="0", description="bit n set = part n is done; hexadecimal")
    duration: float = Field(default=0.0, description="seconds decoded so far")
    audio: float = Field(default=0.0, description="seconds in the parts known so far")
    audio_done: float = Field(default=0.0, description="seconds in the parts done")
    language: str | None = Field(default=None, description="asked for, or heard in the first part")
    language_probability: float | None = Field(default=None, description="if it was heard")
    counters: Counters = Counters()
    timings: Timings
    failure: Failure | None = None
    sha256: str | None = Field(default=None, description="of transcript.json, when completed")
    seconds: float | None = Field(default=None, description="charged, when terminal")
    external_id: str | None = Field(default=None, description="the publisher's own id, of a job from the bus")
    callback: bool = Field(default=False, description="somebody is to be told of the end: see the manifest")
    traceparent: str | None = Field(default=None, description="the submitter's trace context, W3C")

    @property
    def bits(self) -> int:
        """The done parts as an integer: bit n is part n."""
        return int(self.done, 16)

    @property
    def complete(self) -> bool:
        """Sealed, and every part done: somebody must assemble."""
        return self.sealed and self.bits == (1 << self.parts) - 1

    @property
    def progress(self) -> float:
        """Share of the audio that is done, 0..1."""
        if self.state == State.COMPLETED:
            return 1.0
        return min(1.0, self.audio_done / self.audio) if self.audio else 0.0


class SegmentsEvent(Frozen):
    """`results.<tenant>.<job>.segments`: the words of one part, sent before its bit is set; repeats are identical."""

    job: str
    part: int
    start: float
    end: float
    channels: tuple[int, ...] | None = Field(default=None, description="that say these words; absent: all, mixed")
    segments: tuple[Segment, ...]


class EngineCard(Frozen):
    """What a transcriber says of itself in the `engines` bucket every few seconds; gone 15 s after its last word."""

    id: str
    device: str
    engine: str
    slots: int
    rate: float | None = Field(default=None, description="audio seconds per second, measured over the last minutes")
    busy: int | None = Field(default=None, description="batches on the engine now")
    sandbox: str = ""
    live: LiveCard | None = Field(default=None, description="its room for live sessions; absent = it takes none")
    models: tuple["ModelCard", ...] = ()


class ModelCard(Frozen):
    """A model as one transcriber has it."""

    name: str
    available: bool
    loaded: bool
    multilingual: bool = True
    bytes: int | None = Field(default=None, description="measured after load")
    pinned: bool = False
