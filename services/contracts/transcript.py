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

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order."""
        return tuple(word for segment in self.segments for word in segment.words)
