"""Receivers that are down, slow, gone or endless: called again by the schedule, and nobody else waits for them."""

import asyncio
import signal

import nats

from services.contracts import subjects
from services.contracts.jobs import Lane
from tests.doors.callbacks.house import LEASE, TIMEOUT, House, log_of, recording, restart
from tests.doors.caller import Caller
from tests.doors.receiver import flood, silence, status


async def test_calls_go_on_after_a_restart(house: House) -> None:
    """A receiver that is down is called again by the schedule, also by the ingest that comes after the one killed."""
    me = await house.sign_up()
    house.receiver.answers["/down"] = [
        status(503, "out of order", Retry_After="6"),  # time enough to be killed between two calls, not amid one
        status(302, location="/x"),
        status(200),
    ]
    job = await me.submit(recording(), callback_url=house.receiver.url("/down"))
    async with asyncio.timeout(60):
        while not (await log_of(me, job))["attempts"]:
            await asyncio.sleep(0.05)
    await restart(house)
    calls = await house.receiver.called("/down", 3)
    log = await log_of(me, job, "delivered")
    assert [one["status"] for one in log["attempts"]] == [503, 302, 200]
    assert log["attempts"][0]["response"] == "out of order"
    assert {call.headers["webhook-id"] for call in calls} == {f"{job}_completed"}
    assert len({call.body for call in calls}) == 1
    assert not house.receiver.at("/x")


async def test_the_schedule_ends(house: House) -> None:
    """A receiver that takes no call is called as the schedule says; one that is asked for goes out at once."""
    me = await house.sign_up()
    house.receiver.answers["/never"] = [status(503, Retry_After="0")]
    job = await me.submit(recording(), callback_url=house.receiver.url("/never"))
    log = await log_of(me, job, "waiting")
    await house.receiver.called("/never", 4)
    async with asyncio.timeout(60):
        while len((log := await log_of(me, job))["attempts"]) < 4:
            await asyncio.sleep(0.05)
    # The last wait is a minute, within a fifth.
    assert log["state"] == "waiting"
    last = log["attempts"][-1]
    assert 45 < log["next"] - (last["at"] + last["duration"]) < 75
    house.receiver.answers["/never"] = [status(500), status(204)]
    asked = (await me("POST", f"/jobs/{job}/deliveries")).json()
    assert (asked["state"], asked["attempts"][-1]["status"], asked["attempts"][-1]["asked"]) == ("waiting", 500, True)
    asked = (await me("POST", f"/jobs/{job}/deliveries")).json()
    assert (asked["state"], asked["next"], asked["attempts"][-1]["status"]) == ("delivered", None, 204)


async def test_a_receiver_that_asks_for_time_gets_it(house: House) -> None:
    """Retry-After of 429 and 503 makes the wait longer."""
    me = await house.sign_up()
    house.receiver.answers["/later"] = [status(429, Retry_After="2"), status(204)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/later"))
    first, second = await house.receiver.called("/later", 2)
    assert second.at - first.at >= 1.9  # a call may be a little early
    await log_of(me, job, "delivered")


async def test_a_receiver_that_is_gone_is_called_no_more(house: House) -> None:
    """410 ends this callback and those of later jobs, until the owner asks for a call that is taken."""
    me = await house.sign_up()
    house.receiver.answers["/gone"] = [status(410)]
    url = house.receiver.url("/gone")
    first = await me.submit(recording(), callback_url=url)
    await log_of(me, first, "disabled")
    second = await me.submit(recording(1), callback_url=url)
    assert (await log_of(me, second, "disabled"))["attempts"] == []
    assert len(house.receiver.at("/gone")) == 1
    house.receiver.answers["/gone"] = [status(204)]
    assert (await me("POST", f"/jobs/{second}/deliveries")).json()["state"] == "delivered"
    third = await me.submit(recording(2), callback_url=url)
    await log_of(me, third, "delivered")


async def test_what_cannot_be_reached_is_written_down(house: House) -> None:
    """A silent receiver and one that hangs up are errors in the log, and are called again."""
    me = await house.sign_up()
    until = asyncio.Event()
    house.receiver.answers["/silent"] = [silence(until), status(204)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/silent"))
    log = await log_of(me, job, "delivered")
    until.set()
    assert [(one["error"], one["status"]) for one in log["attempts"]] == [("timeout", None), (None, 204)]
    assert log["attempts"][0]["duration"] >= TIMEOUT


async def test_an_endless_answer_costs_nothing(house: House) -> None:
    """Of an answer that never ends the status counts, and a little that can be printed is kept."""
    me = await house.sign_up()
    house.receiver.answers["/flood"] = [flood(200)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/flood"))
    [attempt] = (await log_of(me, job, "delivered"))["attempts"]
    assert (attempt["status"], attempt["error"], attempt["duration"] < TIMEOUT) == (200, None, True)
    assert attempt["response"] == ("[31mflood" * 200)[:200]


async def given_out_again(house: House, me: Caller) -> None:
    """Wait until the bus has delivered the callback of this tenant once more."""
    tenant = (await me("POST", "/keys", json={"label": "tells the tenant"})).json()["tenant"]
    nc = await nats.connect(house.stack.nats_url, user="admin", password=house.stack.nats_password())
    try:
        async with asyncio.timeout(30):
            name = subjects.consumer(Lane.INTERACTIVE, tenant)
            while not (await nc.jetstream().consumer_info(subjects.CALLBACKS, name)).num_redelivered:
                await asyncio.sleep(0.05)
    finally:
        await nc.close()


async def test_an_ingest_that_stood_still_calls_nobody_twice(house: House) -> None:
    """What the bus gives out again, since ingest was late to say that it works on it, is in its hands already."""
    me = await house.sign_up()
    until = asyncio.Event()
    house.receiver.answers["/still"] = [silence(until)]
    job = await me.submit(recording(), callback_url=house.receiver.url("/still"))
    await house.receiver.called("/still")
    ingest = house.stack.process("ingest")
    ingest.kill(signal.SIGSTOP)
    await asyncio.sleep(LEASE + 0.5)
    ingest.kill(signal.SIGCONT)
    await given_out_again(house, me)
    until.set()
    log = await log_of(me, job, "delivered")
    assert len(log["attempts"]) == len(house.receiver.at("/still")) == 1


async def test_a_slow_receiver_holds_up_nobody(house: House) -> None:
    """While one receiver lets every call hang, others are called at once, for the same tenant and for others."""
    me, them = await house.sign_up(), await house.sign_up()
    until = asyncio.Event()
    house.other.answers["/hang"] = [silence(until)]
    slow = [await me.submit(recording(n), callback_url=house.other.url("/hang")) for n in range(14)]
    await house.other.called("/hang", 4)
    for caller in (me, them):
        job = await caller.submit(recording(50), callback_url=house.receiver.url("/fast"))
        log = await log_of(caller, job, "delivered")
        finished = (await caller("GET", f"/jobs/{job}")).json()["timings"]["finished"]
        assert log["attempts"][0]["at"] - finished < TIMEOUT  # a call that hangs takes that long
    theirs = await them.submit(recording(51), callback_url=house.other.url("/theirs"))
    await log_of(them, theirs, "delivered")
    until.set()
    house.other.answers["/hang"] = [status(204)]
    for job in slow:
        await log_of(me, job, "delivered")
