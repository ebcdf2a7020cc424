"""Corrected versions of a transcript, and shares: what people make of a job that has ended. Stored below its prefix."""

from collections.abc import Sequence

from pydantic import Field

from services.contracts.jobs import Frozen
from services.contracts.transcript import Segment, Transcript, Word


class Corrected(Frozen):
    """A segment as people want it; `index` is its place in the transcript, `start` and `end` stay."""

    index: int
    text: str
    words: tuple[Word, ...] = ()


class Version(Frozen):
    """`versions/<n>.json`, written once: all that differs from the transcript, so that any version is two reads away.

    Version 0 is the transcript itself.
    """

    version: int
    base: int = Field(description="the version that was corrected")
    created: float = Field(description="Unix seconds")
    by: str = Field(description="id of the key")
    note: str | None = Field(default=None, description="never logged")
    segments: tuple[Corrected, ...] = Field(description="by index")

    @property
    def words(self) -> int:
        """How many words are marked as corrected."""
        return sum(word.corrected for segment in self.segments for word in segment.words)


def corrected(transcript: Transcript, segments: Sequence[Corrected]) -> Transcript:
    """The transcript with these segments in place of its own. Raises IndexError for one that it does not have."""
    found: list[Segment] = list(transcript.segments)
    for one in segments:
        found[one.index] = found[one.index].model_copy(update={"text": one.text, "words": one.words})
    text = "".join(segment.text for segment in found).strip()
    return transcript.model_copy(update={"segments": tuple(found), "text": text})


class Share(Frozen):
    """`shares/<id>.json` below the job's prefix. The share is good while this is there and its time has not come."""

    share: str
    digest: str = Field(description="SHA-256 of the token, hexadecimal; the token itself is nowhere")
    created: float = Field(description="Unix seconds")
    expires: float = Field(description="Unix seconds")
    by: str = Field(description="id of the key")
    with_audio: bool = False
    title: str | None = Field(default=None, description="never logged")
    version: int | None = Field(default=None, description="None: always the latest")


class Shared(Frozen):
    """`shares/<hash of the token>.json`, beside all jobs: whose share it is. Says nothing by itself."""

    tenant: str
    job: str
    share: str
    expires: float
