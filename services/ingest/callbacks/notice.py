"""What is told: a pure function of the job, so that every call about it carries the same bytes."""

from datetime import UTC, datetime

from services.contracts.callbacks import Callback, Notice, NoticeData, Summary
from services.contracts.events import Record
from services.contracts.jobs import State
from services.contracts.transcript import Transcript

LARGEST = 20_000
"""Bytes that a body stays below."""


def body(record: Record, callback: Callback, transcript: Transcript | None, base: str) -> bytes:
    """The body for a job that has ended; `base` is where the service is reached, or empty.

    The text is in it if it was asked for and leaves the whole small enough.
    """
    path = f"{base}/jobs/{record.job}"
    urls = {"job": path}
    if record.state == State.COMPLETED:
        urls["result"] = f"{path}/result"
    summary = Summary(
        duration=round(record.duration, 3) if record.duration else None,
        language=record.language,
        words=None if transcript is None else count_words(transcript),
    )
    data = NoticeData(job_id=record.job, state=record.state, summary=summary, failure=record.failure, urls=urls)
    ended = datetime.fromtimestamp(record.timings.finished or record.timings.accepted, UTC)
    notice = Notice(
        type=f"transcription.{record.state}",
        timestamp=ended.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        data=data,
    )
    if transcript is not None and callback.include == "transcript":
        whole = notice.model_copy(update={"data": data.model_copy(update={"transcript": transcript.text})}).encode()
        if len(whole) < LARGEST:
            return whole
    return notice.encode()


def count_words(transcript: Transcript) -> int:
    """The words of a transcript, also of one without their times."""
    return len(transcript.words) or len(transcript.text.split())
