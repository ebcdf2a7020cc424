"""An ingest that is killed at any write of a callback, and a bus that loses all: told all the same, and not again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.js import JetStreamContext

from services.contracts import subjects
from tests.doors.callbacks.house import House, log_of, recording, running


@pytest.fixture(scope="module")
async def calm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A house of one's own for those that break it: no callback of another test comes up in it."""
    async with running(tmp_path_factory.mktemp("calm")) as it:
        yield it


@asynccontextmanager
async def operator(house: House) -> AsyncIterator[JetStreamContext]:
    """The operator's hand in the bus."""
    nc = await nats.connect(house.stack.nats_url, user="admin", password=house.stack.nats_password())
    try:
        yield nc.jetstream()
    finally:
        await nc.close()


async def left_the_bus(house: House, job: str) -> None:
    """Wait until nothing more is to be done about this job's callback."""
    mine = subjects.callback("*", "*", job)
    async with operator(house) as js, asyncio.timeout(60):
        while (await js.stream_info(subjects.CALLBACKS, subjects_filter=mine)).state.subjects:
            await asyncio.sleep(0.05)


POINTS = [
    *("offer:callbacks:before", "offer:callbacks:after", "cas:deliveries:before", "cas:deliveries:after"),
    *("put:callback:before", "put:callback:after", "ack:callbacks:before", "ack:callbacks:after"),
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_any_write(calm: House, point: str) -> None:
    """Killed before or after each of its writes, ingest tells all the same, under one id and with one body."""
    me = await calm.sign_up()
    path = "/" + point.replace(":", "-")
    ingest = calm.stack.process("ingest")
    run = ingest.runs
    (calm.stack.home.root / "failpoint").write_text(point)
    job = await me.submit(recording(), callback_url=calm.receiver.url(path))
    assert await ingest.wait_exit(run) == 137
    await ingest.wait_run(run + 1)
    log = await log_of(me, job, "delivered")
    await left_the_bus(calm, job)
    calls = calm.receiver.at(path)
    # Only a kill between the answer and the line in the log makes a second call: nobody can know of the first.
    assert len(calls) == (2 if point == "cas:deliveries:before" else 1)
    assert len({(call.headers["webhook-id"], call.body) for call in calls}) == 1
    assert len(log["attempts"]) == 1
    assert log["attempts"][0]["at"] <= time.time()


async def test_a_bus_that_lost_everything_tells_nobody_again(calm: House) -> None:
    """With every stream and bucket gone, what was told is not told again, and what comes is told."""
    me = await calm.sign_up()
    url = calm.receiver.url("/lost")
    job = await me.submit(recording(), callback_url=url)
    await log_of(me, job, "delivered")
    await left_the_bus(calm, job)
    async with operator(calm) as js:
        for stream in subjects.STREAMS:
            await js.delete_stream(stream)
    async with asyncio.timeout(60):
        while (await me("GET", f"/jobs/{job}")).status != 200:
            await asyncio.sleep(0.2)
        while (reply := await me("POST", "/jobs", params={"callback_url": url}, data=recording(1))).status != 202:
            await asyncio.sleep(0.2)
    await log_of(me, reply.json()["job_id"], "delivered")
    assert [call.json()["data"]["job_id"] for call in calm.receiver.at("/lost")] == [job, reply.json()["job_id"]]
    assert (await log_of(me, job))["state"] == "delivered"
