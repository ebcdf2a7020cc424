"""A recording that kills the engine again and again is given up, and nobody else is blamed for it."""

from collections.abc import AsyncIterator

import pytest

from services.contracts import subjects
from services.contracts.errors import Code
from services.contracts.jobs import Outcome, State
from services.contracts.transcript import Transcript
from tests.faults.checker import check_completed, check_coverage, check_ended
from tests.faults.conftest import Recording, record
from tests.faults.support import Service, Tenant, engines, running, until

RATE = 16_000


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service whose engine has bystanders in it most of the time."""
    async with running(tmp_path_factory.mktemp("service"), {"transcriber": {"DESIFRE_DIGEST_SPEED": "60"}}) as service:
        yield service


async def test_poison_is_given_up_and_bystanders_complete(service: Service, recording: Recording) -> None:
    """A part that crashes the engine fails its job with `poison` after three deaths; jobs beside it complete."""
    poisoned = await service.sign_up()
    bystanders = [await service.sign_up() for _ in range(4)]
    like = await bystanders[0].submit(recording.data)
    await bystanders[0].ended(like)
    evidence = await service.evidence(bystanders[0].tenant, like)
    check_completed(evidence, recording.samples)

    beside = [await me.submit(recording.data) for me in bystanders]
    # In the middle of the recording, and in its first second: two parts that kill, and a recording that does so twice.
    poison = [
        await poisoned.submit(recording.data, prompt=prompt)
        for prompt in (f"crash@{30 * RATE}", "crash@16000", f"crash@{10 * RATE} crash@{50 * RATE}")
    ]
    for job in poison:
        view = await poisoned.ended(job)
        assert (view["state"], view["failure"]["code"]) == (State.FAILED, Code.POISON)
        found = await service.evidence(poisoned.tenant, job)
        check_ended(found)
        assert max(found.record.counters.crashes.values()) == 3
        dead = await service.bus.js.get_last_msg(subjects.DEAD, subjects.dead(poisoned.tenant, job))
        assert Outcome.model_validate_json(dead.data or b"") == found.outcome
    for me, job in zip(bystanders, beside, strict=True):
        assert (await me.ended(job))["state"] == State.COMPLETED
        check_completed(await service.evidence(me.tenant, job), recording.samples, evidence.transcript)
    assert (await service.usage(poisoned.tenant)).seconds_today == 0


async def test_the_operator_hears_of_what_was_given_up(service: Service) -> None:
    """A transcriber that dies while it gives a job up leaves the job's end and the operator's copy to the next."""
    me = await service.sign_up()
    run = service.arm("transcriber", "publish:dead:before")
    job = await me.submit(record(5).data, prompt="crash@16000")
    await service.died("transcriber", run)
    assert (await me.ended(job))["state"] == State.FAILED
    dead = await service.bus.js.get_last_msg(subjects.DEAD, subjects.dead(me.tenant, job))
    assert Outcome.model_validate_json(dead.data or b"").state == State.FAILED


async def test_a_part_that_is_hard_once_is_forgiven(service: Service, recording: Recording) -> None:
    """Deaths of the engine that are fewer than three leave no trace in the job."""
    me = await service.sign_up()
    while not await twice_killed(service, me, job := await me.submit(recording.data)):
        await me.ended(job)
    assert (await me.ended(job))["state"] == State.COMPLETED
    found = await service.evidence(me.tenant, job)
    check_completed(found, recording.samples)
    assert not found.record.counters.crashes


async def twice_killed(service: Service, me: Tenant, job: str) -> bool:
    """Kill two engines one after the other; whether a third came for what is left of the job."""
    killed: set[int] = set()

    async def another_or_none() -> bool:
        record = await service.records.get(me.tenant, job)
        return any(engine.pid not in killed for engine in engines(service)) or (
            record is not None and record.state.terminal
        )

    while True:
        await until(another_or_none, "no engine was started")
        engine = next((engine for engine in engines(service) if engine.pid not in killed), None)
        if engine is None or len(killed) == 2:
            return engine is not None
        engine.kill()
        killed.add(engine.pid)


async def test_windows_that_fail_are_accounted_for(service: Service, recording: Recording) -> None:
    """What the engine gives up is told in the coverage, and the rest of the recording is transcribed."""
    me = await service.sign_up()
    at = 30 * RATE
    job = await me.submit(recording.data, prompt=f"fail@{at}")
    assert (await me.ended(job))["state"] == State.COMPLETED
    found = await service.evidence(me.tenant, job)
    check_ended(found)
    transcript = Transcript.model_validate_json(found.transcript or b"")
    [(start, end)] = transcript.coverage.failed.ranges
    assert start <= at / RATE < end
    words = [(word.start, word.end) for word in transcript.words]
    assert all(b <= start or a >= end for a, b in words)
    check_coverage(transcript, recording.seconds, words)
