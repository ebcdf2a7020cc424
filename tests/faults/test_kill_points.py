"""`kill -9` before and after every durable write of a job's way, from admission to outcome: nothing of it shows.

Every fault has a job of its own and runs by itself; several whole services stand side by side, so that the waiting for
one redelivery does not hold up the next fault.
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from services.runtime.lifecycle import cancel
from tests.faults.checker import anonymous, check_completed
from tests.faults.conftest import Recording
from tests.faults.support import Service, Tenant, running, today, until

SERVICES = 3
PARTS = 3
"""Parts that the recording of these tests is cut into."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A process's share of a job's way: each durable write (`<action>:<kind>`), with how often a job passes it."""

    name: str
    process: str
    writes: Mapping[str, int]


ADMISSION = Step(
    "admission",
    "ingest",
    {"put:source": 1, "cas:claims": 1, "put:job": 1, "cas:records": 1, "offer:jobs": 1},
)
AGAIN = Step("admission of a recording that is done again", "ingest", {"put:source": 1})
WORK = Step(
    "prepare, parts, assembly and outcome",
    "transcriber",
    {
        # Begun; each part known, begun and done; the language; sealed; ended.
        "cas:records": 4 + 3 * PARTS,
        "put:pcm": PARTS,
        "put:part": PARTS,
        "offer:parts": PARTS,
        "put:peaks": 1,
        "put:plan": 1,
        "ack:jobs": 1,
        "put:words": PARTS,
        "publish:segments": PARTS,
        "put:transcript": 1,
        "put:outcome": 1,
        "delete:pcm": 1,
        "ack:parts": PARTS,
    },
)
TABLE = (ADMISSION, AGAIN, WORK)
NOT_OF_A_JOB = frozenset(("put:other", "cas:engines"))
"""The probe of a conditional write at the start, and what a transcriber says of itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One place at which a process is killed."""

    step: Step
    point: str

    def __str__(self) -> str:
        return f"{self.step.process}-{'again-' if self.step is AGAIN else ''}{self.point}"


def faults() -> Iterator[Any]:
    """After the last of each write, and before the first of a step.

    In the long tests before each as well, which leaves what the write before it has left, and between the first and
    the last: of those that each part brings the first and the last, of the record's all.
    """
    for step in TABLE:
        for n, (write, times) in enumerate(step.writes.items()):
            for count in range(1, times + 1) if write == "cas:records" else sorted({1, times}):
                for when, usual in (("before", n == 0 and count == 1), ("after", count == times)):
                    fault = Fault(step, f"{write}:{when}@{count}")
                    yield pytest.param(fault, marks=() if usual else pytest.mark.long, id=str(fault))


@dataclass(frozen=True, slots=True)
class Crew:
    """Services on which faults are under way; `like` is the transcript of an unfaulted run, `passed` its trace."""

    like: bytes
    passed: Mapping[str, Counter[str]]
    ends: Mapping[Fault, asyncio.Future[None]]


@pytest.fixture(scope="module")
async def crew(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, recording: Recording
) -> AsyncIterator[Crew]:
    """An unfaulted run, and then every fault that this session asks for."""
    here = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    ]
    wanted = [item.callspec.params["fault"] for item in here if hasattr(item, "callspec")]
    ends = {fault: asyncio.get_running_loop().create_future() for fault in wanted}
    async with contextlib.AsyncExitStack() as stack:
        homes = [tmp_path_factory.mktemp("service") for _ in range(SERVICES)]
        services = await asyncio.gather(*(stack.enter_async_context(running(home)) for home in homes))
        like, passed = await unfaulted(services[0], recording, homes[0])
        waiting = iter(wanted)

        async def go_through(service: Service) -> None:
            for fault in waiting:
                try:
                    await suffer(service, fault, recording, like)
                except Exception as error:  # noqa: BLE001 - the fault's own test raises it
                    ends[fault].set_exception(error)
                else:
                    ends[fault].set_result(None)

        tasks = [asyncio.create_task(go_through(service), name=f"faults {n}") for n, service in enumerate(services)]
        yield Crew(like, passed, ends)
        await cancel(*tasks)


async def unfaulted(service: Service, recording: Recording, home: Path) -> tuple[bytes, dict[str, Counter[str]]]:
    """The transcript that nothing disturbed, and the writes that each process passed on the way to it."""
    # A machine that stops for a moment has nothing offered or done again that is counted here.
    calm = {"DESIFRE_ACK_WAIT": "60", "DESIFRE_STALLED_AFTER": "60"}
    traces = {process: home / f"{process}.trace" for process in ("ingest", "transcriber")}
    for process, trace in traces.items():
        await service.stack.process(process).restart({"DESIFRE_FAILPOINT": f"trace@{trace}", **calm})
    me = await service.sign_up()
    job = await me.submit(recording.data)
    await me.ended(job)
    evidence = await service.evidence(me.tenant, job)
    check_completed(evidence, recording.samples)
    assert evidence.record.parts == PARTS
    assert evidence.transcript is not None
    passed = {process: Counter(trace.read_text().split()) for process, trace in traces.items()}
    for process in traces:
        await service.stack.process(process).restart()
    return evidence.transcript, passed


async def suffer(service: Service, fault: Fault, recording: Recording, like: bytes) -> None:
    """Kill the process at this point of a job, and see that the job is as if nothing had been."""
    me, day = await service.sign_up(), today()
    first = [await finished(me, recording.data)] if fault.step is AGAIN else []
    run = service.arm(fault.step.process, fault.point)
    job = await again(me, first[0]) if first else await me.submit(recording.data)
    view = await me.ended(job)
    assert view["state"] == "completed", view["failure"]
    await service.died(fault.step.process, run)
    evidence = await service.evidence(me.tenant, job)
    check_completed(evidence, recording.samples, like)
    assert await me.jobs() == [job, *first], "there is another job"
    await no_stray_object(service, me, {job, *first})
    used = (1 + len(first)) * recording.seconds
    # The place in the quota may be taken before the first byte is stored: then there is nothing to sweep it by, and
    # keys gives it back when it is old.
    unfinished = {0, 1} if fault.point.startswith("put:source:before") else {0}
    await until(lambda: charged(service, me, used, unfinished, day), "the ledger does not agree")


async def finished(me: Tenant, data: bytes) -> str:
    """A job that has ended."""
    job = await me.submit(data)
    await me.ended(job)
    return job


async def again(me: Tenant, job: str) -> str:
    """The same recording once more, as another job."""
    headers = {"Idempotency-Key": "again"}
    return str(json.loads(await me.ask("POST", "/jobs", headers, json={"source": job}))["job_id"])


async def no_stray_object(service: Service, me: Tenant, jobs: set[str]) -> None:
    """A recording that never became a job may be left by a killed admission, and goes with the next sweep."""
    strays = {job: names for job, names in (await service.folders(me.tenant)).items() if job not in jobs}
    assert all(names == {"source"} for names in strays.values()), strays
    if strays:
        await service.stack.process("ingest").restart({"DESIFRE_SWEEP_AFTER": "0.001"})
        await until(lambda: only(service, me, jobs), "what a killed admission left is not swept")
        await service.stack.process("ingest").restart()


async def only(service: Service, me: Tenant, jobs: set[str]) -> bool:
    """Whether these jobs are all that the tenant has in the store."""
    return (await service.folders(me.tenant)).keys() == jobs


async def charged(service: Service, me: Tenant, seconds: float, unfinished: set[int], day: date) -> bool:
    """Whether keys counts these seconds, on this day, and so many unfinished jobs."""
    usage = await service.usage(me.tenant)
    used = usage.seconds_today == seconds or today() != day
    return used and usage.seconds_reserved == 0 and usage.unfinished_jobs in unfinished


def test_the_table_names_every_durable_write(crew: Crew) -> None:
    """A job that nothing disturbs passes every write of the table as often as it says, and no other."""
    for step in (ADMISSION, WORK):
        for when in ("before", "after"):
            passed = {
                name.rpartition(":")[0]: n for name, n in crew.passed[step.process].items() if name.endswith(when)
            }
            for write in NOT_OF_A_JOB:
                passed.pop(write, None)
            # Two parts that ask for the language at once both write it, or try to.
            passed["cas:records"] = min(passed["cas:records"], step.writes["cas:records"])
            assert passed == step.writes


@pytest.mark.parametrize("fault", list(faults()))
async def test_killed_at_a_durable_write(crew: Crew, fault: Fault) -> None:
    """Whoever dies there, the job ends once, its transcript has the unfaulted run's bytes, and nothing is left over."""
    await crew.ends[fault]


def test_the_unfaulted_run_is_worth_comparing_with(crew: Crew) -> None:
    """Its transcript says something of each part, and hides nothing but the job's id."""
    assert len(json.loads(crew.like)["segments"]) >= PARTS
    assert anonymous(crew.like).count(b"JOB") == 1
