"""What the operator is told of a job."""

from services.contracts.events import Counters, EngineCard, ModelCard, Record
from services.contracts.jobs import Door, Failure, Lane, State, Timings
from services.ingest.queue import Place
from services.ingest.why import Evidence, sentences

JOB = "job_01M8BFEXEHZ56Y4SFD4H9JSFF3"
CARD = EngineCard(
    id="e", device="cpu", engine="whisper", slots=2, models=(ModelCard(name="base", available=True, loaded=False),)
)


def told(
    *,
    state: State = State.RUNNING,
    lane: Lane = Lane.INTERACTIVE,
    model: str = "base",
    counters: Counters | None = None,
    failure: Failure | None = None,
    ended: State | None = None,
    queued: tuple[str, ...] = (f"parts.interactive.t.{JOB}.1",),
    live: bool = False,
    cards: tuple[EngineCard, ...] = (CARD,),
    place: Place | None = None,
) -> str:
    """What is said of a job with two parts, one of them done, that differs from others in this."""
    record = Record(
        job=JOB,
        tenant="t",
        key_id="k",
        door=Door.HTTP,
        lane=lane,
        model=model,
        state=state,
        parts=2,
        done="1",
        audio=300,
        audio_done=120,
        counters=counters or Counters(),
        failure=failure,
        timings=Timings(accepted=1_790_000_000),
    )
    return "\n".join(sentences(Evidence(record, ended, queued, 12, live, cards, place)))


def test_a_job_under_way_is_told_with_what_is_done() -> None:
    """State, owner, times, parts and what is on the bus are said, and nothing of trouble where there is none."""
    text = told(counters=Counters(starts={"part:1": 1}))
    assert "is running" in text
    assert "1 of 2 parts known so far are done: 120 of 300 s" in text
    assert "in hand: 1 of its parts." in text
    assert "died" not in text
    assert "begun" not in text


def test_what_keeps_a_job_is_named() -> None:
    """No transcriber, no weights, nothing on the bus, deaths, a batch that waits for its tenant: each is said."""
    assert "No transcriber is there" in told(cards=())
    assert "has the weights of large-v3" in told(model="large-v3")
    assert "Nothing of it is on the bus" in told(queued=())
    trouble = told(counters=Counters(crashes={"part:1": 2}, starts={"prepare": 4}))
    assert "died 2 times on part:1" in trouble
    assert "prepare was begun 4 times" in trouble
    waiting = told(state=State.ACCEPTED, lane=Lane.BATCH, queued=(f"jobs.batch.t.{JOB}",))
    assert "DESIFRE_WAITING_PARTS_PER_TENANT: 12 do" in waiting
    assert "Place 3 in the queue, 90 s" in told(place=Place(3, 90.0, None))


def test_the_end_of_a_job_is_told() -> None:
    """A failure says whether again could help; an outcome that the record is behind, and a session's end, are said."""
    failed = told(state=State.FAILED, failure=Failure(code="interrupted", message="Again and again.", retryable=True))
    assert "interrupted: Again and again." in failed
    assert JOB in failed.splitlines()[-1]
    assert "will not help" in told(state=State.FAILED, failure=Failure(code="not_audio", message="None."))
    assert "Its outcome is completed" in told(ended=State.COMPLETED)
    assert "ends with it" in told(lane=Lane.LIVE, live=True)
    assert "gone from the bus" in told(lane=Lane.LIVE)
