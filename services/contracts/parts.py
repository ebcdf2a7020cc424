"""A part: a stretch of one recording, cut at a silence; the unit of work on the engine."""

from pydantic import Field

from services.contracts.jobs import Frozen, Options
from services.contracts.transcript import Segment, Span

SAMPLE_RATE = 16_000
BYTES_PER_SECOND = 2 * SAMPLE_RATE
PEAKS_PER_SECOND = 20
"""Values of the stored waveform: 72 kB an hour, and finer than a pixel where half a minute fills a screen."""


class Part(Frozen):
    """`parts/<n>.json`: written after the PCM, and binding for every later prepare of the same job."""

    n: int
    start: int = Field(description="first sample in the recording, 16 kHz")
    end: int = Field(description="one past the last sample")
    overlap: int = Field(default=0, description="samples at the beginning that the part before holds too")
    sha256: str = Field(description="of the PCM, hexadecimal")
    speech: tuple[Span, ...] = Field(description="stretches of speech inside, seconds in the recording")
    channels: tuple[int, ...] | None = Field(
        default=None, description="that hold these samples, all the same; absent where all channels are mixed"
    )

    @property
    def of(self) -> tuple[int, ...]:
        """The channels that hold these samples; mixed, there is one."""
        return self.channels or (0,)

    @property
    def channel(self) -> int | None:
        """The channel in the name of the samples; None where all are mixed."""
        return self.channels[0] if self.channels else None

    @property
    def seconds(self) -> float:
        """The part's length."""
        return (self.end - self.start) / SAMPLE_RATE


class PartWork(Frozen):
    """The message on `parts.<lane>.<tenant>.<job>.<n>`: enough to begin without another look-up."""

    job: str
    tenant: str
    n: int
    seconds: float
    options: Options
    language: str | None = Field(default=None, description="asked for, or detected by prepare's first part")


class JobWork(Frozen):
    """The message on `jobs.<lane>.<tenant>.<job>`."""

    job: str
    tenant: str
    size: int
    model: str


class Plan(Frozen):
    """`plan.json`, the seal: how many parts there are and what of the recording they leave out."""

    parts: int
    duration: float = Field(description="seconds decoded")
    truncated: bool = Field(default=False, description="the container promised more than it held")
    vad: bool = True
    channels: tuple[tuple[int, ...], ...] | None = Field(
        default=None, description="all of them, those together that are the same; absent where they are mixed"
    )


class PartWords(Frozen):
    """`words/<n>.json`: what the engine heard in one part. Times are seconds in the recording."""

    n: int
    channels: tuple[int, ...] | None = Field(default=None, description="as in the part")
    language: str | None = None
    language_probability: float | None = None
    segments: tuple[Segment, ...] = ()
    transcribed: tuple[Span, ...] = Field(default=(), description="ranges that the engine heard")
    failed: tuple[Span, ...] = Field(default=(), description="ranges given up, and said so")
    suspect: tuple[Span, ...] = Field(default=(), description="ranges whose words may be invented")
