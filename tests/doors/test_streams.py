"""Streamed results: sockets and server-sent events, over everything that breaks them."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from services.contracts.stream import Cursor, Event, Watching
from tests.doors.caller import Caller, Front
from tests.doors.watcher import heard, parts, read_all, socket, sse, with_parts

NO_JOB = "job_01M83PRRQKZGF5RJXYNWRWV2GN"


async def test_a_job_is_told_from_its_start_to_its_end(front: Front, me: Caller) -> None:
    """What is stored is replayed, what comes follows, each event once and in order, and the last state ends it."""
    tenant, job = await with_parts(front, me, 3)
    async with socket(me) as it:
        begun = await it.watch(job)
        assert (begun["type"], begun["job_id"], begun["after"]) == ("watching", job, None)
        view = (await me("GET", f"/jobs/{job}")).json()
        assert begun["job"] == view | {"queue": None}
        events = await it.events(4)
        await heard(front.bus, tenant, job, 3)
        await front.complete(job)
        events += await it.to_the_end()
        await it.quiet()
        again = await it.watch(job, after=events[-1]["cursor"])
        assert again["job"]["state"] == "completed"
        await it.quiet()
    assert parts(events) == [0, 1, 2, 3]
    assert events[-1]["data"] == (await me("GET", f"/jobs/{job}")).json()
    sequences = [Cursor.parse(event["cursor"]).sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert [Event.model_validate(event).job_id for event in events] == [job] * len(events)
    assert Watching.model_validate(begun).job_id == job


async def test_it_goes_on_after_a_cursor(front: Front, me: Caller) -> None:
    """With the cursor of any event exactly those after it come."""
    _, job = await with_parts(front, me, 5)
    async with socket(me) as it:
        await it.watch(job)
        events = await it.events(6)
    for n, event in enumerate(events[:-1]):
        async with socket(me) as it:
            assert (await it.watch(job, after=event["cursor"]))["after"] == event["cursor"]
            assert await it.events(5 - n) == events[n + 1 :]
            await it.quiet()


async def test_two_jobs_on_one_socket(front: Front, me: Caller) -> None:
    """Watches are independent: each job's events come once, and an end of one watch is not the other's."""
    tenant, first = await with_parts(front, me, 1, b"first")
    _, second = await with_parts(front, me, 1, b"second")
    async with socket(me) as it:
        await it.watch(first)
        await it.events(2)
        await it.watch(second)
        await it.events(2)
        await it.say(type="unwatch", job_id=first)
        assert await it.next() == {"type": "unwatched", "job_id": first}
        await heard(front.bus, tenant, first, 1)
        await heard(front.bus, tenant, second, 1)
        [event] = await it.events(1)
        assert (event["job_id"], event["data"]["part"]) == (second, 1)
        await it.quiet()


async def test_all_of_ones_own_jobs(front: Front, me: Caller) -> None:
    """`all` tells of every job of the tenant from now on, of no other tenant's, and goes on after a cursor."""
    tenant, first = await with_parts(front, me, 1, b"before")
    other_tenant, foreign = await with_parts(front, await me.sign_up(), 1, b"foreign")
    async with socket(me) as it:
        begun = await it.watch("all")
        assert begun["job"] is None
        await heard(front.bus, other_tenant, foreign, 1)
        await heard(front.bus, tenant, first, 1)
        second = await me.submit(b"second")
        seen = await it.events(2)
        assert [(event["job_id"], event["kind"]) for event in seen] == [(first, "segments"), (second, "state")]
    await heard(front.bus, tenant, second, 0)
    await heard(front.bus, tenant, first, 2)
    async with socket(me) as it:
        assert (await it.watch("all", after=seen[-1]["cursor"]))["after"] == seen[-1]["cursor"]
        missed = await it.events(2)
        assert [(event["job_id"], event["data"]["part"]) for event in missed] == [(second, 0), (first, 2)]
        await it.quiet()
    async with socket(me) as it:
        await it.watch("all", after=begun["after"])
        assert await it.events(4) == seen + missed


async def test_anothers_job_is_no_job(front: Front, me: Caller) -> None:
    """Another tenant's job, one that never was and no id at all are answered alike, on the socket and over HTTP."""
    _, foreign = await with_parts(front, await me.sign_up(), 1)
    async with socket(me) as it:
        answers = [await it.watch(job) for job in (foreign, NO_JOB, "*", ">", "")]
    assert {answer["code"] for answer in answers} == {"job_not_found"}
    assert len({str(answer | {"job_id": ""}) for answer in answers}) == 1
    for job in (foreign, NO_JOB):
        assert (await me("GET", f"/jobs/{job}/events")).code == "job_not_found"


async def test_what_was_erased_is_not_shown(front: Front, me: Caller) -> None:
    """Of an erased job nothing is told but that it was erased, though the stream still holds its words."""
    async with socket(me) as it:
        begun = await it.watch("all")
    tenant, job = await with_parts(front, me, 2, b"secret")
    await front.complete(job, "secret words")
    assert (await me("DELETE", f"/jobs/{job}")).json()["state"] == "erased"
    async with socket(me) as it:
        assert (await it.watch(job))["code"] == "job_erased"
        await it.watch("all", after=begun["after"])
        [event] = await it.events(1)
        assert (event["job_id"], event["data"]["state"]) == (job, "erased")
        await heard(front.bus, tenant, job, 1)  # an engine that had not heard of it
        await it.quiet()
    assert (await me("GET", f"/jobs/{job}/events")).code == "job_erased"


async def test_a_slow_reader_is_told_to_watch_again(front: Front, me: Caller) -> None:
    """Who does not read gets no more kept for him than the backlog; he is told, and misses nothing."""
    tenant, job = await with_parts(front, me, 0, b"long")
    ingest = psutil.Process(front.stack.process("ingest").pid)
    count, size = 160, 250_000
    async with socket(me, max_msg_size=0) as it:
        await it.watch(job)
        await it.events(1)
        before = ingest.memory_info().rss
        for first in range(0, count, 8):  # several at a time: who reads nothing for ten seconds is cut off
            await asyncio.gather(*(heard(front.bus, tenant, job, part, "x" * size) for part in range(first, first + 8)))
        grown = ingest.memory_info().rss - before
        events: list[dict[str, Any]] = []
        resyncs = 0
        while len(events) < count:
            message = await it.next()
            if message["type"] == "event":
                events.append(message)
            elif message["type"] == "resync":
                resyncs += 1
                assert message["after"] == events[-1]["cursor"]
                await it.say(type="watch", job_id=job, after=message["after"])
        await it.quiet()
    assert parts(events) == list(range(count))
    assert resyncs >= 1
    assert grown < count * size / 2


async def test_server_sent_events(front: Front, me: Caller) -> None:
    """The same messages as events with ids; after Last-Event-ID those that follow; at the end it ends, and stays so."""
    tenant, job = await with_parts(front, me, 2)
    async with socket(me) as it:
        begun = await it.watch(job)
        told = await it.events(3)
        events = sse(me, job)
        read = [await anext(events)]
        await heard(front.bus, tenant, job, 2)
        await front.complete(job)
        told += await it.to_the_end()
        read += [event async for event in events]
    assert [name for name, _, _ in read] == ["watching", *(event["kind"] for event in told)]
    assert read[0][2] == begun
    assert [data for _, _, data in read[1:]] == told
    assert [cursor for _, cursor, _ in read[1:]] == [event["cursor"] for event in told]
    rest = await read_all(me, job, after=told[1]["cursor"])
    assert [data for _, _, data in rest[1:]] == told[2:]
    over = await me("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": told[-1]["cursor"]})
    assert (over.status, over.body) == (204, b"")
    assert (await me("GET", f"/jobs/{job}/events", params={"after": "yesterday"})).code == "malformed_request"


async def test_the_example_of_the_docs(front: Front, me: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """The client on the page of streamed results follows a job to its end."""
    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
    code = page.split("```python\n")[1].split("asyncio.run(")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is our own page
    tenant, job = await with_parts(front, me, 2)
    following = asyncio.create_task(names["follow"](me.base.replace("http", "ws") + "/ws", me.key, job), name="example")
    await heard(front.bus, tenant, job, 2)
    with capture_logs():  # ours, of this process: what is printed must be the example's
        await front.complete(job)
        await following
    printed = capsys.readouterr().out
    assert [line.split(" ")[0] for line in printed.splitlines()] == [
        "state",
        "segments",
        "segments",
        "segments",
        "state",
    ]
