"""Callbacks: who is told of a job's end, the work of telling, what became of it, and what is told."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from services.contracts.jobs import Failure, Frozen, Manifest, State


class Callback(Frozen):
    """What a caller asked for. The URL may hold a secret of the receiver's: it is never logged."""

    url: str
    include: Literal["transcript"] | None = None


class CallbackWork(Frozen):
    """The message on `callbacks.<lane>.<tenant>.<job>`: this job has ended and somebody is to be told."""

    job: str
    tenant: str
    endpoint: str = Field(description="host:port of the receiver, whose calls are counted together")


class Told(StrEnum):
    """How far the telling of a job's end has come."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"


class Attempt(Frozen):
    """One call of a receiver."""

    at: float = Field(description="Unix seconds")
    duration: float = Field(description="seconds")
    status: int | None = Field(default=None, description="the receiver's HTTP status, if it answered")
    error: str | None = Field(default=None, description="why there was no answer, in one word")
    response: str | None = Field(default=None, description="up to 200 printable characters of the answer")
    asked: bool = Field(default=False, description="by POST /jobs/{id}/deliveries, beside the schedule")


class Delivery(Frozen):
    """The log of one job's callback, in the bucket `deliveries`; `callback.json` when nothing more will be sent."""

    job: str
    told: Told = Told.WAITING
    tries: int = Field(default=0, description="scheduled calls so far")
    next: float | None = Field(default=None, description="Unix seconds of the next call, while waiting")
    attempts: tuple[Attempt, ...] = ()


class Summary(Frozen):
    """The job in a few numbers."""

    duration: float | None = Field(default=None, description="seconds of audio")
    language: str | None = None
    words: int | None = Field(default=None, description="how many, when completed")


class NoticeData(Frozen):
    """`data` of a notice. URLs are relative unless the operator has said where the service is reached."""

    job_id: str
    state: State
    summary: Summary
    failure: Failure | None = None
    urls: dict[str, str]
    transcript: str | None = Field(default=None, description="the text, if it was asked for and is small enough")


class Notice(Frozen):
    """The body of a callback, under 20 kB."""

    type: str = Field(description="transcription.completed, .failed or .cancelled")
    timestamp: str = Field(description="when the job ended, RFC 3339")
    data: NoticeData


def callback_of(manifest: Manifest) -> Callback | None:
    """Who is to be told of this job's end."""
    if manifest.callback_url is None:
        return None
    return Callback(url=manifest.callback_url, include=manifest.callback_include)


def webhook_id(job: str, state: State) -> str:
    """The `webhook-id`: the same for every call about this end of this job, so that a receiver knows a repeat."""
    return f"{job}_{state}"
