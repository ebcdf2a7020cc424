"""Admission killed before and after each of its durable writes: a repeat makes one job of it, and so does time."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from infra.stack import Stack
from services.contracts import objects
from services.contracts.auth import Claims as Who
from services.contracts.jobs import State
from tests.contract.ingest_support import AT_ONCE, Ingest, admit_and_die

BEFORE_JOB = ["put:source:before", "put:source:after", "cas:claims:before", "cas:claims:after", "put:job:before"]
AFTER_JOB = ["put:job:after", "cas:records:before", "cas:records:after", "offer:jobs:before", "offer:jobs:after"]
SAME = {"cas:claims:before", "put:job:before", "cas:records:before", "offer:jobs:before"}
"""What is there before these is what the write before them has left."""


def points(*names: str) -> list[Any]:
    """Where to die; the places that differ from another one in nothing that is durable only in the long tests."""
    return [pytest.param(name, marks=pytest.mark.long if name in SAME else ()) for name in names]


async def one_job_is_there(ingest: Ingest, who: Who, job: str, data: bytes) -> None:
    """The tenant has this job and no other, in the bucket, in the store and on the bus."""
    assert [record.job for record in (await ingest.jobs.page(who.tenant)).records] == [job]
    assert (await ingest.jobs.get(who.tenant, job)).state == State.ACCEPTED
    assert sorted(await ingest.stored(who.tenant)) == [f"{job}/job.json", f"{job}/source"]
    assert await ingest.blobs.get(objects.source(who.tenant, job)) == data
    assert await ingest.queued(who.tenant) == [job]


async def the_quota_holds(ingest: Ingest, who: Who, jobs: int) -> None:
    """Keys counts so many unfinished jobs, once it has seen what there is to see."""
    async with asyncio.timeout(60):
        while (await ingest.usage(who)).unfinished_jobs != jobs:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("failpoint", "key"),
    [pytest.param(*point.values, None, marks=point.marks) for point in points(*BEFORE_JOB, *AFTER_JOB)]
    # With a key tests/faults/test_kill_points.py repeats them through the door.
    + [
        pytest.param(point, "k", marks=pytest.mark.long)
        for point in ("cas:claims:after", "put:job:after", "cas:records:after")
    ],
)
async def test_a_repeat_completes_a_killed_admission(
    stack: Stack, ingest: Ingest, tmp_path: Path, failpoint: str, key: str | None
) -> None:
    """Whatever write the first request died at, the second makes one whole job; the sweep takes what else was left."""
    who, data = await ingest.sign_up(), os.urandom(1000)
    body = tmp_path / "body"
    body.write_bytes(data)
    await admit_and_die(stack, failpoint, who, body, key)
    job = (await ingest.receive(who, data, key=key)).record.job
    await ingest.sweep(after=-5).round(everything=True)
    await one_job_is_there(ingest, who, job, data)
    if failpoint != "put:source:before":
        await the_quota_holds(ingest, who, 1)


@pytest.mark.parametrize("failpoint", points(*BEFORE_JOB, *AFTER_JOB))
async def test_without_a_repeat_a_killed_admission_is_a_job_or_nothing(
    stack: Stack, ingest: Ingest, tmp_path: Path, failpoint: str
) -> None:
    """From job.json on the reconciler completes what was admitted; before, the sweep removes it with its quota."""
    who, data = await ingest.sign_up(), os.urandom(1000)
    body = tmp_path / "body"
    body.write_bytes(data)
    await admit_and_die(stack, failpoint, who, body)
    await ingest.reconciler(AT_ONCE, ingest.sweep(after=-5)).round()
    found = (await ingest.jobs.page(who.tenant)).records
    if failpoint in AFTER_JOB:
        assert len(found) == 1
        await one_job_is_there(ingest, who, found[0].job, data)
        await the_quota_holds(ingest, who, 1)
    else:
        assert found == []
        assert await ingest.stored(who.tenant) == []
        assert await ingest.queued(who.tenant) == []
        if failpoint != "put:source:before":
            await the_quota_holds(ingest, who, 0)
