"""The transcript: words with times and probabilities, and an account of every second of the recording."""

from pydantic import Field

from services.contracts.jobs import Frozen

Span = tuple[float, float]
"""A range in seconds of the recording: [start, end)."""


class Word(Frozen):
    """One word. Times are seconds in the recording, the probability lies in 0..1."""

    word: str
    start: float
    end: float
    probability: float
    corrected: bool = Field(
        default=False,
        description="by people, and not what the engine heard; absent = no",
        exclude_if=lambda told: not told,
    )


class Segment(Frozen):
    """A stretch of words that the model produced together."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 0.0
    temperature: float = 0.0
    tokens: tuple[int, ...] = ()
    suspect: str | None = Field(default=None, description="why these words may be invented; they are never deleted")
    channel: int | None = Field(default=None, description="that says them, from 0; absent: all, mixed")


class Ranges(Frozen):
    """Some of a recording: how much, and where."""

    seconds: float
    ranges: tuple[Span, ...] = ()


class Coverage(Frozen):
    """What became of every second: transcribed + non_speech + failed = decoded, within 0.05 s.

    `suspect` is a subset of what was transcribed.
    """

    decoded: float
    transcribed: float
    non_speech: Ranges
    failed: Ranges
    suspect: Ranges
    truncated: bool = False


class Channel(Frozen):
    """One channel of a recording whose channels were heard apart. Its segments stand in the transcript."""

    index: int = Field(description="place in the recording, from 0")
    label: str
    same_as: int | None = Field(default=None, description="the channel that holds the same samples and has its words")
    language: str | None = None
    seconds: float = Field(description="of audio that its owner is charged for; 0 = silent, or the same as another")
    coverage: Coverage


class Transcript(Frozen):
    """`transcript.json`: a pure function of `job.json`, `plan.json` and `words/*`, equal bytes whoever makes it."""

    job: str
    model: str
    task: str
    language: str | None = Field(default=None, description="absent where nobody speaks and none was asked for")
    language_probability: float | None = None
    duration: float
    text: str
    segments: tuple[Segment, ...]
    coverage: Coverage
    channels: tuple[Channel, ...] | None = Field(default=None, description="absent where they were mixed")

    @property
    def charged(self) -> float:
        """Seconds of audio: of each channel where they were heard apart."""
        return sum(one.seconds for one in self.channels) if self.channels else self.duration

    @property
    def labels(self) -> dict[int, str]:
        """Labels by channel, where more than one has something to say."""
        told = [one for one in self.channels or () if one.same_as is None]
        return {one.index: one.label for one in told} if len(told) > 1 else {}

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order."""
        return tuple(word for segment in self.segments for word in segment.words)
