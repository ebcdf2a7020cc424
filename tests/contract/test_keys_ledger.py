"""The usage ledger, with a clock that the test turns."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from services.contracts.auth import Admit, Granted, Reserve, Usage, UsageRequest
from services.contracts.errors import Problem
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Failure, Lane, State, Timings
from services.keys.tables import Day, Entry, Tenant
from tests.contract.keys_support import NOON, House, house

HOURS = 3600.0
DAY = 86_400.0


def record(tenant: str, job: str, state: State, *, seconds: float | None = None, size: int = 0) -> Record:
    failure = Failure(code="engine_failed", message="It could not.") if state == State.FAILED else None
    return Record(
        job=job, tenant=tenant, key_id="k", door=Door.HTTP, lane=Lane.INTERACTIVE, model="base", state=state,
        size=size, seconds=seconds, failure=failure, timings=Timings(accepted=NOON),
    )  # fmt: skip


async def admit(there: House, tenant: str, job: str, size: int = 0, release: bool = False) -> Granted:
    return await there.ledger.admit(Admit(tenant=tenant, key_id="k", job=job, bytes=size, release=release))


async def reserve(there: House, tenant: str, job: str, seconds: float) -> Granted:
    return await there.ledger.reserve(Reserve(tenant=tenant, job=job, seconds=seconds))


async def usage(there: House, tenant: str) -> Usage:
    return await there.ledger.usage(UsageRequest(tenant=tenant))


async def figures(there: House, tenant: str) -> tuple[float, float, int, int]:
    """Seconds settled today, seconds reserved, unfinished jobs, bytes."""
    used = await usage(there, tenant)
    return used.seconds_today, used.seconds_reserved, used.unfinished_jobs, used.bytes


async def test_a_job_is_counted_from_admission_to_its_end(tmp_path: Path) -> None:
    """A job counts as unfinished with its bytes, then with what it reserved, then with what it was charged."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        assert (await admit(there, tenant, job, 1000)).ok
        assert await figures(there, tenant) == (0.0, 0.0, 1, 1000)
        assert (await reserve(there, tenant, job, 300.0)).ok
        assert (await reserve(there, tenant, job, 600.5)).ok
        assert await figures(there, tenant) == (0.0, 600.5, 1, 1000)
        await there.ledger.settle(record(tenant, job, State.COMPLETED, seconds=590.25, size=1000))
        assert await figures(there, tenant) == (590.25, 0.0, 0, 1000)


async def test_repeats_are_free(tmp_path: Path) -> None:
    """Admission, a reservation of as much or less, and settlement count once however often they come."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        for _ in range(2):
            assert (await admit(there, tenant, job, 10)).ok
        for seconds in (60.0, 60.0, 20.0):
            assert (await reserve(there, tenant, job, seconds)).ok
        assert await figures(there, tenant) == (0.0, 60.0, 1, 10)
        for _ in range(2):
            await there.ledger.settle(record(tenant, job, State.COMPLETED, seconds=60.0, size=10))
        assert (await admit(there, tenant, job, 10)).ok
        assert (await reserve(there, tenant, job, 80.0)).ok
        assert await figures(there, tenant) == (60.0, 0.0, 0, 10)


@pytest.mark.parametrize(("state", "charged"), [(State.COMPLETED, 40.0), (State.CANCELLED, 40.0), (State.FAILED, 0.0)])
async def test_what_each_end_costs(tmp_path: Path, state: State, charged: float) -> None:
    """A completed and a cancelled job cost the seconds of their record, a failed one nothing."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        await admit(there, tenant, job)
        await reserve(there, tenant, job, 100.0)
        await there.ledger.settle(record(tenant, job, state, seconds=40.0))
        assert await figures(there, tenant) == (charged, 0.0, 0, 0)


async def test_erasure_frees_the_bytes_and_not_the_seconds(tmp_path: Path) -> None:
    """An erased job's bytes are given back once, its charge stays, and no late event brings it back."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        await admit(there, tenant, job, 500)
        await there.ledger.settle(record(tenant, job, State.COMPLETED, seconds=30.0, size=500))
        for state in (State.ERASED, State.ERASED, State.COMPLETED, State.RUNNING):
            await there.ledger.settle(record(tenant, job, state, seconds=30.0, size=500))
            assert await figures(there, tenant) == (30.0, 0.0, 0, 0)


async def test_an_erasure_that_overtakes_the_end_settles_too(tmp_path: Path) -> None:
    """Where the events of end and erasure were merged into one, the job is charged and its bytes are free."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        await admit(there, tenant, job, 500)
        await there.ledger.settle(record(tenant, job, State.ERASED, seconds=30.0, size=500))
        assert await figures(there, tenant) == (30.0, 0.0, 0, 0)


async def test_a_job_that_the_ledger_does_not_know_is_entered(tmp_path: Path) -> None:
    """A state event of an unknown job makes its row, open or settled; one of an unknown tenant makes nothing."""
    async with house(tmp_path) as there:
        tenant = (await there.sign_up()).tenant
        await there.ledger.settle(record(tenant, new_job_id(), State.RUNNING, size=7))
        await there.ledger.settle(record(tenant, new_job_id(), State.COMPLETED, seconds=9.0, size=5))
        assert await figures(there, tenant) == (9.0, 0.0, 1, 12)
        await there.ledger.settle(record("nobody0000000000", new_job_id(), State.COMPLETED, seconds=9.0))
        async with there.store.read() as connection:
            assert (await connection.execute(select(func.count()).select_from(Entry))).scalar() == 2


async def test_too_many_unfinished_jobs_are_refused(tmp_path: Path) -> None:
    """At the quota of unfinished jobs the next is refused until one has ended; a repeat of a known one is not."""
    async with house(tmp_path, quota_jobs=2) as there:
        tenant, jobs = (await there.sign_up()).tenant, [new_job_id() for _ in range(3)]
        assert [(await admit(there, tenant, job)).code for job in jobs] == [None, None, "too_many_jobs"]
        assert (await admit(there, tenant, jobs[0])).ok
        await there.ledger.settle(record(tenant, jobs[0], State.CANCELLED, seconds=0.0))
        assert (await admit(there, tenant, jobs[2])).ok


async def test_an_admission_that_died_gives_its_place_back(tmp_path: Path) -> None:
    """A job of which nothing came for two days holds up no other; one that was prepared keeps its place."""
    async with house(tmp_path, quota_jobs=2) as there:
        tenant, prepared = (await there.sign_up()).tenant, new_job_id()
        assert (await admit(there, tenant, prepared)).ok
        assert (await reserve(there, tenant, prepared, 10.0)).ok
        assert (await admit(there, tenant, new_job_id(), 500)).ok
        assert not (await admit(there, tenant, new_job_id())).ok
        there.clock.now += 2 * DAY + 1
        assert (await admit(there, tenant, new_job_id())).ok
        assert not (await admit(there, tenant, new_job_id())).ok
        assert (await usage(there, tenant)).bytes == 0


async def test_admissions_at_the_same_time_do_not_pass_the_quota(tmp_path: Path) -> None:
    """Of many admissions at once exactly as many get through as the quota allows."""
    async with house(tmp_path, quota_jobs=5) as there:
        tenant = (await there.sign_up()).tenant
        answers = await asyncio.gather(*(admit(there, tenant, new_job_id()) for _ in range(20)))
        assert sum(answer.ok for answer in answers) == 5


async def test_stored_bytes_are_bounded(tmp_path: Path) -> None:
    """An upload that would pass the quota of bytes is refused, also when it turns out larger than announced."""
    async with house(tmp_path, quota_bytes=100) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        assert (await admit(there, tenant, job, 60)).ok
        assert (await admit(there, tenant, new_job_id(), 41)).code == "quota_exceeded"
        assert (await admit(there, tenant, job, 101)).code == "quota_exceeded"
        assert (await admit(there, tenant, job, 100)).ok
        assert (await figures(there, tenant))[3] == 100


async def test_the_record_knows_the_size_better(tmp_path: Path) -> None:
    """The bytes of the job's record replace what admission could only estimate."""
    async with house(tmp_path) as there:
        tenant, job = (await there.sign_up()).tenant, new_job_id()
        await admit(there, tenant, job, 1000)
        await there.ledger.settle(record(tenant, job, State.PREPARING, size=900))
        assert (await figures(there, tenant))[3] == 900


async def test_an_admission_that_came_to_nothing_is_undone(tmp_path: Path) -> None:
    """A released admission leaves no trace; releasing an unknown or an ended job changes nothing."""
    async with house(tmp_path) as there:
        tenant, job, ended = (await there.sign_up()).tenant, new_job_id(), new_job_id()
        await admit(there, tenant, job, 10)
        await admit(there, tenant, ended, 10)
        await there.ledger.settle(record(tenant, ended, State.COMPLETED, seconds=5.0, size=10))
        for name in (job, job, ended, new_job_id()):
            assert (await admit(there, tenant, name, release=True)).ok
        assert await figures(there, tenant) == (5.0, 0.0, 0, 10)


async def test_the_day_is_bounded_by_what_was_used_and_what_is_reserved(tmp_path: Path) -> None:
    """A reservation that others' seconds and reservations of the day leave no room for is refused, to the second."""
    async with house(tmp_path, quota_seconds=1000) as there:
        tenant, jobs = (await there.sign_up()).tenant, [new_job_id() for _ in range(3)]
        for job in jobs:
            await admit(there, tenant, job)
        await reserve(there, tenant, jobs[0], 400.0)
        await there.ledger.settle(record(tenant, jobs[0], State.COMPLETED, seconds=300.0))
        assert (await reserve(there, tenant, jobs[1], 500.0)).ok
        refused = await reserve(there, tenant, jobs[2], 200.001)
        assert (refused.ok, refused.code, refused.retry_after) == (False, "quota_exceeded", 12 * HOURS)
        assert (await reserve(there, tenant, jobs[2], 200.0)).ok
        assert (await admit(there, tenant, new_job_id())).code == "quota_exceeded"


async def test_the_day_turns_at_midnight_utc(tmp_path: Path) -> None:
    """A new day has its whole quota; a job that was admitted yesterday goes on counting there."""
    async with house(tmp_path, quota_seconds=100) as there:
        tenant, yesterday, today = (await there.sign_up()).tenant, new_job_id(), new_job_id()
        await admit(there, tenant, yesterday)
        await reserve(there, tenant, yesterday, 90.0)
        there.clock.now = NOON + 12 * HOURS
        assert (await figures(there, tenant))[:2] == (0.0, 0.0)
        await admit(there, tenant, today)
        assert (await reserve(there, tenant, today, 100.0)).ok
        assert (await reserve(there, tenant, yesterday, 101.0)).code == "quota_exceeded"
        assert (await reserve(there, tenant, yesterday, 100.0)).ok
        await there.ledger.settle(record(tenant, yesterday, State.COMPLETED, seconds=100.0))
        assert (await figures(there, tenant))[:2] == (0.0, 100.0)


async def test_the_operator_grants_more_or_less(tmp_path: Path) -> None:
    """A granted quota holds at once, for that tenant alone, and what was not named stays as it is."""
    async with house(tmp_path, quota_jobs=1) as there:
        one, two = (await there.sign_up()).tenant, (await there.sign_up()).tenant
        await there.operator.set_quota(one, seconds=7200.0, jobs=2)
        assert [(await admit(there, one, new_job_id())).ok for _ in range(3)] == [True, True, False]
        assert [(await admit(there, two, new_job_id())).ok for _ in range(2)] == [True, False]
        granted = (await usage(there, one)).quota
        assert (granted.audio_seconds_per_day, granted.unfinished_jobs, granted.bytes) == (7200.0, 2, 20 << 30)
        await there.operator.set_quota(one, seconds=0.0)
        assert (await usage(there, one)).quota.unfinished_jobs == 2
        with pytest.raises(Problem):
            await there.operator.set_quota("nobody0000000000", jobs=1)


async def test_a_reservation_of_an_unknown_job_is_taken(tmp_path: Path) -> None:
    """Prepare goes on with a job whose row was lost; for a tenant that is not there nothing is reserved."""
    async with house(tmp_path) as there:
        tenant = (await there.sign_up()).tenant
        assert (await reserve(there, tenant, new_job_id(), 60.0)).ok
        assert await figures(there, tenant) == (0.0, 60.0, 1, 0)
        with pytest.raises(Problem):
            await reserve(there, "nobody0000000000", new_job_id(), 60.0)


STEPS = st.one_of(
    st.tuples(st.just("admit"), st.integers(0, 3), st.integers(0, 50)),
    st.tuples(st.just("release"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("reserve"), st.integers(0, 3), st.floats(0, 80)),
    st.tuples(st.just("settle"), st.integers(0, 3), st.sampled_from([*State])),
    st.tuples(st.just("later"), st.just(0), st.floats(0, DAY)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=25))
async def test_the_sums_are_always_those_of_the_rows(steps: list[tuple[str, int, float | State]]) -> None:
    """Whatever comes in whatever order, a tenant's and a day's sums equal the sums over the ledger's rows."""
    with TemporaryDirectory() as folder:
        async with house(Path(folder), quota_jobs=3, quota_bytes=100, quota_seconds=100) as there:
            tenant = (await there.sign_up()).tenant
            jobs = [new_job_id() for _ in range(4)]
            for verb, n, value in steps:
                match verb, value:
                    case "admit", int():
                        await admit(there, tenant, jobs[n], value)
                    case "release", _:
                        await admit(there, tenant, jobs[n], release=True)
                    case "reserve", float() | int():
                        await reserve(there, tenant, jobs[n], value)
                    case "settle", State():
                        await there.ledger.settle(record(tenant, jobs[n], value, seconds=11.1, size=n))
                    case "later", float() | int():
                        there.clock.now += value
            await check_sums(there)


async def check_sums(there: House) -> None:
    async with there.store.read() as connection:
        entries = (await connection.execute(select(Entry.__table__))).all()
        tenant = (await connection.execute(select(Tenant.__table__))).one()
        days = {row.day: row for row in await connection.execute(select(Day.__table__))}
    assert tenant.unfinished == sum(row.settled_ms is None for row in entries)
    assert tenant.bytes == sum(row.bytes for row in entries)
    assert {row.day for row in entries} <= set(days)
    for day, row in days.items():
        of_day = [entry for entry in entries if entry.day == day]
        assert row.reserved_ms == sum(entry.reserved_ms for entry in of_day if entry.settled_ms is None)
        assert row.settled_ms == sum(entry.settled_ms or 0 for entry in of_day)
