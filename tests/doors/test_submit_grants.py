"""What a tenant's own service may do on the bus: publish for itself, read its own events, and nothing else."""

import asyncio
import json

from services.contracts import subjects
from tests.doors.caller import Front
from tests.doors.publisher import Publisher, audio, grant, logged_in, sign_up


async def test_a_publisher_may_do_just_that(front: Front, publisher: Publisher) -> None:
    """A granted user can neither submit for, nor read of, anybody else, nor touch anything of the service's."""
    other = await sign_up(front.bus)
    complaints = publisher.complaints
    reader = subjects.reader(publisher.tenant)
    for subject in (
        subjects.submit(other),
        subjects.job("batch", publisher.tenant, "j"),
        subjects.rejected(publisher.tenant),
        subjects.state(publisher.tenant, "j"),
        subjects.KEYS_CREATE,
        f"$JS.API.CONSUMER.CREATE.RESULTS.{reader}.results.>",
        f"$JS.API.CONSUMER.CREATE.RESULTS.{reader}.results.{publisher.tenant}.>",
        f"$JS.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(other)}",
        f"$JS.{subjects.DOMAIN}.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(other)}",
        f"$JS.ACK.RESULTS.{subjects.reader(other)}.1.1.1.1.0",
        f"$JS.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.USAGE_CONSUMER}",
        "$JS.API.STREAM.INFO.RESULTS",
        "$JS.API.DIRECT.GET.RESULTS",
        "$JS.API.STREAM.PURGE.SUBMIT",
    ):
        complaints.clear()
        await publisher.nc.publish(subject, b"{}")
        await publisher.nc.flush()
        await publisher.nc.flush()
        assert any(subject.lower() in each for each in complaints), subject
    for subject in (">", "results.>", f"{subjects.RELAY}.>", "submit.>", f"{subjects.inbox('ingest')}.>"):
        complaints.clear()
        await publisher.nc.subscribe(subject)
        await publisher.nc.flush()
        await publisher.nc.flush()
        assert any("permissions violation" in each for each in complaints), subject


async def test_an_answer_reaches_nobody_else(front: Front, publisher: Publisher) -> None:
    """Where a granted user asks for an answer, a subject of the service's or another tenant's, nothing arrives."""
    other = await sign_up(front.bus)
    record = subjects.kv(subjects.RECORDS, subjects.record(other, "job_forged"))
    targets = (record, subjects.job("batch", other, "job_forged"), subjects.submit(other), "anywhere")
    heard = await front.bus.nc.subscribe("anywhere")
    await publisher.submit(id="1", audio=audio())
    assert (await publisher.record()).external_id == "1"
    ask = json.dumps({"batch": 1, "expires": 2_000_000_000}).encode()
    for target in targets:
        await publisher.nc.publish(subjects.submit(publisher.tenant), b"{}", reply=target)
        await publisher.nc.publish(
            f"$JS.{subjects.DOMAIN}.API.CONSUMER.MSG.NEXT.RESULTS.{subjects.reader(publisher.tenant)}",
            ask,
            reply=target,
        )
    for n in range(len(targets)):
        await publisher.submit(id=f"more {n}", audio=audio(b"more"))
        # Each of the four empty submissions above was taken, acknowledged somewhere, and rejected.
        assert (await publisher.rejection()).code == "submission_malformed"
    assert publisher.complaints == []
    assert heard.pending_msgs == 0
    for stream, subject in zip((subjects.KV_RECORDS, subjects.JOBS, subjects.SUBMIT), targets, strict=False):
        assert await front.bus.counts(stream, subject) == {}, subject
    await heard.unsubscribe()


async def test_what_another_tenant_calls_its_message_throws_nothing_away(front: Front, publisher: Publisher) -> None:
    """Two tenants that publish under one `Nats-Msg-Id` have a job each: the stream tells of it, and soon forgets."""
    other = await sign_up(front.bus)
    login = await asyncio.to_thread(grant, front.stack, other)
    async with logged_in(login) as nc:
        theirs = Publisher(other, nc, login, [])
        await theirs.submit({"Nats-Msg-Id": "1"}, id="1", audio=audio())
        assert (await theirs.record()).external_id == "1"
        async with asyncio.timeout(20):  # a tenth of a second, but for the server's own clockwork
            while (await publisher.submit({"Nats-Msg-Id": "1"}, id="1", audio=audio())).duplicate:
                await asyncio.sleep(0.05)
        assert (await publisher.record()).tenant == publisher.tenant


async def test_a_second_grant_is_a_new_password(front: Front, publisher: Publisher) -> None:
    """The old password is worth nothing then, and the services stay connected through it all."""
    again = await asyncio.to_thread(grant, front.stack, publisher.tenant)
    async with logged_in(again) as nc:
        async with asyncio.timeout(60):
            while publisher.nc.is_connected:
                await asyncio.sleep(0.05)
        renewed = Publisher(publisher.tenant, nc, again, [])
        await renewed.submit(id="1", audio=audio())
        assert (await renewed.record()).external_id == "1"
