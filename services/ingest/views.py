"""What a client sees of a job. Times are Unix seconds, durations seconds."""

from dataclasses import dataclass

from pydantic import BaseModel, Field

from services.contracts.events import Record
from services.contracts.jobs import Door, Failure, Lane, State, Timings
from services.ingest.queue import Place


@dataclass(frozen=True, slots=True)
class Label:
    """What only a job's manifest says of it: the file name is not to lie about on the bus."""

    name: str | None = None
    source_of: str | None = None


UNLABELLED = Label()


class QueueView(BaseModel):
    """Where a job stands that has not begun."""

    position: int = Field(description="1 = next")
    ahead: float = Field(description="seconds of audio that go before it")
    expected_start: float | None = Field(description="Unix seconds; null while no engine has measured its rate")


class TimingsView(BaseModel):
    """When a job reached what, in Unix seconds, and how long that took, in seconds."""

    accepted: float
    preparing: float | None
    started: float | None = Field(description="first window on the engine")
    finished: float | None
    queue_wait_time: float | None = Field(description="from admission to the first window on the engine")
    processing_time: float | None = Field(description="from there to the outcome")


class JobView(BaseModel):
    """A job."""

    job_id: str
    state: State
    lane: Lane
    door: Door
    model: str
    language: str | None = Field(description="asked for or detected")
    size: int = Field(description="bytes of the recording")
    duration: float = Field(description="seconds of audio decoded so far")
    progress: float = Field(description="share of the audio that is done, 0 to 1; grows to 1 once all of it is known")
    audio_done: float = Field(description="seconds of audio that are done")
    parts: int = Field(description="parts known so far")
    queue: QueueView | None
    timings: TimingsView
    failure: Failure | None
    name: str | None = Field(
        description="its file name, without control characters; null in events and in a 202, as `queue` is"
    )
    external_id: str | None = Field(description="the publisher's own, of a job from the bus")
    source_of: str | None = Field(description="the job whose recording it does again; null in events and in a 202")
    links: dict[str, str]


class JobPage(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobView]
    next: str | None = Field(description="pass it as `before` for the next page; null on the last")


def job_view(record: Record, place: Place | None = None, label: Label = UNLABELLED) -> JobView:
    """The view of a record, with its place in the queue where it has one, and what its manifest says of it."""
    path = f"/jobs/{record.job}"
    links = {"self": path, "audio": f"{path}/audio"}
    if record.callback:
        links["deliveries"] = f"{path}/deliveries"
    if record.state == State.COMPLETED:
        links["result"] = f"{path}/result"
    return JobView(
        job_id=record.job,
        state=record.state,
        lane=record.lane,
        door=record.door,
        model=record.model,
        language=record.language,
        size=record.size,
        duration=round(record.duration, 3),
        progress=round(_progress(record), 4),
        audio_done=round(record.audio_done, 3),
        parts=record.parts,
        queue=None
        if place is None
        else QueueView(position=place.position, ahead=place.ahead, expected_start=place.expected_start),
        timings=timings_view(record.timings),
        failure=record.failure,
        name=label.name,
        external_id=record.external_id,
        source_of=label.source_of,
        links=links,
    )


def timings_view(timings: Timings) -> TimingsView:
    """Points in time with the two spans that people ask for; a job without speech never reaches the engine."""
    begun = timings.started or timings.finished
    return TimingsView(
        accepted=round(timings.accepted, 3),
        preparing=_rounded(timings.preparing),
        started=_rounded(timings.started),
        finished=_rounded(timings.finished),
        queue_wait_time=None if begun is None else _span(timings.accepted, begun),
        processing_time=None if begun is None or timings.finished is None else _span(begun, timings.finished),
    )


def _rounded(moment: float | None) -> float | None:
    return None if moment is None else round(moment, 3)


def _span(start: float, end: float) -> float:
    # Two machines may have stamped these.
    return round(max(0.0, end - start), 3)


def _progress(record: Record) -> float:
    # While parts are still being cut the whole is not known, and all that is known may be done.
    return record.progress if record.sealed or record.state.terminal else min(record.progress, 0.99)
