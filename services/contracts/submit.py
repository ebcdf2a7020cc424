"""Submissions over the bus: what another service publishes on `submit.<tenant>`, and how it is told of a refusal."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from services.contracts.jobs import Frozen, Lane

LARGEST = 1 << 20
"""Bytes of a message: about 780 kB of audio in base64. What is larger goes through the bucket."""
TRACEPARENT = "traceparent"
"""Header with the W3C trace context: of a submission, and from then on of every message about the job."""


class Named(Frozen):
    """What a submission is called by; that can be read where the rest of it is wrong."""

    id: Annotated[str, Field(min_length=1, max_length=128, description="the publisher's own; for 7 days it is one job")]


class Submit(Named):
    """The message on `submit.<tenant>`. Whose job it is, the subject says.

    Exactly one of `object` and `audio`. Unknown fields are refused, so that a mistyped one is not overlooked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    object: Annotated[str | None, Field(max_length=1024, description="key in the bucket `drop`, below `<tenant>/`")] = (
        None
    )
    audio: Annotated[str | None, Field(description="the recording itself in base64, if it is small")] = None
    options: Annotated[dict[str, Any], Field(description="as in a form of POST /jobs")] = Field(default_factory=dict)
    lane: Literal[Lane.INTERACTIVE, Lane.BATCH] = Lane.BATCH
    callback_url: Annotated[str | None, Field(description="who is told of the end, over HTTP")] = None
    callback_include: Annotated[
        Literal["transcript"] | None, Field(description="what is told beside a summary, if it is small enough")
    ] = None
    name: Annotated[str | None, Field(max_length=1024, description="file name, shown with the job")] = None


class Rejected(Frozen):
    """The event on `rejected.<tenant>`: this submission became no job, and why."""

    id: str | None = Field(default=None, description="the publisher's own, if it could be read")
    code: str
    sentence: str
    remedy: str
