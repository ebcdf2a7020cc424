"""The consumer of state events on a real bus."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.runtime.bus import connect_bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import cancel
from services.runtime.states import StateEvents
from tests.contract.ingest_support import Ingest, open_ingest, settings_of

DURABLE = "beside"


@pytest.fixture
async def ingest(stack: Stack) -> AsyncIterator[Ingest]:
    async with open_ingest(settings_of(stack)) as ingest:
        yield ingest


async def test_an_event_in_hand_does_not_hold_up_the_next(stack: Stack, ingest: Ingest) -> None:
    """With `at_once` two jobs are handled beside one another: each waits here until the other has come."""
    who = await ingest.sign_up()
    jobs = {(await ingest.receive(who, data)).record.job for data in (b"one", b"two")}
    come: set[str] = set()
    both = asyncio.Event()

    async def handle(record: Record) -> None:
        if record.job not in jobs:
            return
        come.add(record.job)
        if come == jobs:
            both.set()
        await both.wait()

    login = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
    async with connect_bus(settings_of(stack).model_copy(update=login)) as admin:
        # More than there are jobs, because each may have had several events already.
        running = asyncio.create_task(StateEvents(admin, DURABLE, handle, at_once=4).run(), name=DURABLE)
        try:
            async with asyncio.timeout(60):
                await both.wait()
        finally:
            await cancel(running)
            await admin.js.delete_consumer(subjects.RESULTS, DURABLE)


async def test_a_job_that_breaks_us_stops_nobody(stack: Stack, ingest: Ingest) -> None:
    """An event whose handling fails comes again by itself, and the events of other jobs are handled meanwhile."""
    who = await ingest.sign_up()
    bad, good = [(await ingest.receive(who, data)).record.job for data in (b"bad", b"good")]
    come: list[str] = []
    seen = asyncio.Event()

    async def handle(record: Record) -> None:
        if record.job in (bad, good):
            come.append(record.job)
            if come.count(bad) > 1 and good in come:
                seen.set()
        if record.job == bad:
            raise ValueError(bad)

    login = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
    async with connect_bus(settings_of(stack).model_copy(update=login)) as admin:
        running = asyncio.create_task(StateEvents(admin, "broken", handle).run(), name="broken")
        try:
            async with asyncio.timeout(60):
                await seen.wait()
            assert not running.done()
        finally:
            await cancel(running)
            await admin.js.delete_consumer(subjects.RESULTS, "broken")


async def test_many_jobs_that_wait_stop_nobody(stack: Stack, ingest: Ingest) -> None:
    """However many events are put off, those of other jobs are handled: what waits to come again is not in hand."""
    who = await ingest.sign_up()
    record = (await ingest.receive(who, b"bad")).record
    bad = {record.job, *(new_job_id() for _ in range(64))}
    await asyncio.gather(*(ingest.records.create(record.model_copy(update={"job": job})) for job in bad))
    good = (await ingest.receive(who, b"good")).record.job
    seen = asyncio.Event()

    async def handle(record: Record) -> None:
        if record.job in bad:
            raise Unavailable("store")
        if record.job == good:
            seen.set()

    login = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
    async with connect_bus(settings_of(stack).model_copy(update=login)) as admin:
        running = asyncio.create_task(StateEvents(admin, "crowded", handle).run(), name="crowded")
        try:
            async with asyncio.timeout(60):
                await seen.wait()
        finally:
            await cancel(running)
            await admin.js.delete_consumer(subjects.RESULTS, "crowded")
