"""What the operator sees of the last minutes: counted once, however often and late it is heard."""

from services.contracts.events import EngineCard, ModelCard, Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Failure, Lane, State, Timings
from services.ingest.activity import DAY, STEP, STEPS, Activity
from services.ingest.http.status import engine_status

START = 1e9


class Clock:
    """Time as a test has it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def record(state: State = State.RUNNING, done: float = 0.0, accepted: float = START, **more: object) -> Record:
    """A job of somebody's."""
    return Record(
        job=new_job_id(),
        tenant="t",
        key_id="k",
        door=Door.HTTP,
        lane=Lane.INTERACTIVE,
        model="base",
        state=state,
        audio_done=done,
        timings=Timings(accepted=accepted),
    ).model_copy(update=more)


def failed(code: str, at: float) -> Record:
    """A job that failed."""
    timings = Timings(accepted=at, finished=at)
    return record(State.FAILED, failure=Failure(code=code, message="m"), timings=timings)


def test_speech_is_counted_once() -> None:
    """The seconds that a job gained, in the step in which they were heard; an old state heard late adds none."""
    clock = Clock()
    activity, job = Activity(clock), record()
    activity.hear(job)
    activity.hear(late := job.model_copy(update={"audio_done": 30.0}))
    clock.now += STEP
    activity.hear(job.model_copy(update={"audio_done": 50.0, "state": State.COMPLETED}))
    activity.hear(late)
    activity.hear(job.model_copy(update={"audio_done": 50.0, "state": State.COMPLETED}))
    passed = activity.throughput()
    assert (passed.audio[-2:], passed.completed[-2:], len(passed.audio)) == ([30.0, 20.0], [0, 1], STEPS)
    clock.now += STEP * STEPS
    assert sum(activity.throughput().audio) == 0


def test_what_was_heard_before_the_start_is_not_of_now() -> None:
    """A job that was under way at the start counts from there on."""
    activity, job = Activity(Clock()), record(done=600.0, accepted=START - 100)
    activity.hear(job)
    activity.hear(job.model_copy(update={"audio_done": 610.0}))
    assert activity.throughput().audio[-1] == 10.0


def test_failures_of_a_day_by_their_codes() -> None:
    """Also those before the start, as far as records tell; whose fault they were, and none twice."""
    clock = Clock()
    activity = Activity(clock)
    once = failed("not_audio", START - 10)
    for one in (once, once, failed("not_audio", START - 5), failed("engine_failed", START - DAY - 1)):
        activity.hear(one)
    activity.hear(failed("interrupted", START - 1))
    told = [(one.code, one.count, one.last, one.ours) for one in activity.failures()]
    assert told == [("interrupted", 1, START - 1, True), ("not_audio", 2, START - 5, False)]
    clock.now += DAY - 6
    assert [one.code for one in activity.failures()] == ["interrupted", "not_audio"]
    clock.now += 10
    assert activity.failures() == []


def test_an_engine_shows_the_models_that_it_holds() -> None:
    """Those that are only on the disk are not of its memory."""
    models = (
        ModelCard(name="base", available=True, loaded=True, bytes=7),
        ModelCard(name="large", available=True, loaded=False),
    )
    shown = engine_status(EngineCard(id="e", device="cpu", engine="whisper", slots=2, rate=12.345, models=models))
    assert [(model.name, model.bytes) for model in shown.models] == [("base", 7)]
    assert (shown.rate, shown.busy, shown.live) == (12.35, None, None)
