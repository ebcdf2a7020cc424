"""What each user of the bus is refused: the walls between the services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from services.contracts import subjects
from services.runtime.bus import connect_bus
from services.runtime.settings import Settings
from tests.support import NatsServer

SERVICES = ("ingest", "transcriber", "keys")


@asynccontextmanager
async def connected(server: NatsServer, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A connection of this user, with what the server complained about on it."""
    complaints: list[str] = []

    async def note(error: Exception) -> None:
        complaints.append(str(error).lower())

    connection = await nats.connect(server.url, **server.login(user), error_cb=note)
    try:
        yield connection, complaints
    finally:
        await connection.close()


async def round_trip(connection: Client) -> None:
    """Return when the server has judged all that was sent before: its complaint travels before its pong."""
    await connection.flush()
    await connection.flush()


@pytest.fixture(scope="module")
async def streams(nats_server: NatsServer) -> NatsServer:
    """The server with every stream and bucket, made by ingest's user as at a real start."""
    settings = Settings(
        nats_url=nats_server.url, nats_user="ingest", nats_password=nats_server.users["ingest"], store_access_key=""
    )
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()
    return nats_server


FORBIDDEN_TO_ALL = [
    *(
        f"$JS.API.STREAM.{verb}.{stream}"
        for verb in ("DELETE", "PURGE", "MSG.DELETE", "UPDATE")
        for stream in subjects.STREAMS
    ),
    f"$JS.API.STREAM.CREATE.{subjects.JOBS}2",
    "$JS.API.STREAM.RESTORE.JOBS",
    "$JS.API.ACCOUNT.PURGE.$G",
    f"$JS.API.CONSUMER.DELETE.{subjects.JOBS}.batch-tenant",
    f"$JS.API.CONSUMER.DELETE.{subjects.RESULTS}.{subjects.USAGE_CONSUMER}",
    "_INBOX.anybody",
    "anything.else",
]
FORBIDDEN: dict[str, list[str]] = {
    "ingest": [
        subjects.segments("t", "j"),
        subjects.state("t", "j"),
        subjects.dead("t", "j"),
        subjects.kv(subjects.ENGINES, "e"),
        subjects.KEYS_REVOKED,
        subjects.KEYS_RESERVE,
        subjects.submit("t"),
        subjects.live_out("s"),
        subjects.live_done("s"),
        subjects.kv(subjects.SESSIONS, "s"),
        f"$JS.API.CONSUMER.CREATE.{subjects.RESULTS}.spy.results.>",
        f"$JS.API.CONSUMER.CREATE.{subjects.JOBS}.thief.jobs.batch.t.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{subjects.PARTS}.batch-t",
        f"$JS.ACK.{subjects.JOBS}.batch-t.1.1.1.1.1",
    ],
    "transcriber": [
        subjects.state("t", "j"),
        subjects.kv(subjects.CLAIMS, "c"),
        subjects.KEYS_VERIFY,
        subjects.KEYS_CREATE,
        subjects.KEYS_REVOKE,
        subjects.KEYS_REVOKED,
        subjects.submit("t"),
        subjects.rejected("t"),
        f"$JS.API.CONSUMER.CREATE.{subjects.SUBMIT}.thief.submit.t",
        subjects.cancel("t", "j"),
        subjects.callback("batch", "t", "j"),
        subjects.kv(subjects.DELIVERIES, "t.j"),
        subjects.KEYS_SIGNING,
        subjects.KEYS_SIGN_ANEW,
        subjects.KEYS_PAYER,
        subjects.live_open("s"),
        f"$JS.API.CONSUMER.CREATE.{subjects.RESULTS}.spy.results.>",
    ],
    "keys": [
        subjects.job("batch", "t", "j"),
        subjects.part("batch", "t", "j", 0),
        subjects.segments("t", "j"),
        subjects.kv(subjects.RECORDS, subjects.record("t", "j")),
        subjects.callback("batch", "t", "j"),
        subjects.kv(subjects.DELIVERIES, "t.j"),
        subjects.KEYS_VERIFY,
        subjects.submit("t"),
        subjects.rejected("t"),
        subjects.live_audio("s"),
        subjects.live_out("s"),
        f"$JS.API.CONSUMER.CREATE.{subjects.RESULTS}.spy.results.>",
        f"$JS.API.DIRECT.GET.{subjects.KV_RECORDS}",
    ],
}


@pytest.mark.parametrize("user", SERVICES)
async def test_no_service_can_publish_what_is_not_its_own(streams: NatsServer, user: str) -> None:
    """Every subject outside a user's list is refused, deleting and purging of any stream first of all."""
    for subject in [*FORBIDDEN_TO_ALL, *FORBIDDEN[user], f"{subjects.inbox('somebody')}.x"]:
        async with connected(streams, user) as (connection, complaints):
            await connection.publish(subject, b"{}")
            await round_trip(connection)
        assert any("permissions violation" in each and subject.lower() in each for each in complaints), subject


@pytest.mark.parametrize("user", SERVICES)
async def test_no_service_can_listen_to_what_is_not_its_own(streams: NatsServer, user: str) -> None:
    """Nobody can subscribe to everything, to the common inbox, to another's inbox or to another's requests."""
    others = [subjects.inbox(name) for name in SERVICES if name != user]
    forbidden = [">", "_INBOX.>", "$KV.>", "jobs.>", "parts.>", "$JS.>", *(f"{inbox}.>" for inbox in others)]
    if user != "keys":
        forbidden.append(subjects.KEYS_VERIFY)
    for subject in forbidden:
        async with connected(streams, user) as (connection, complaints):
            await connection.subscribe(subject)
            await round_trip(connection)
        assert any("permissions violation" in each for each in complaints), subject


@pytest.mark.parametrize("user", SERVICES)
async def test_every_service_can_make_the_streams_that_are_missing(streams: NatsServer, user: str) -> None:
    """Each user may run the start-up step that makes streams, and finds those that are there."""
    settings = Settings(nats_url=streams.url, nats_user=user, nats_password=streams.users[user])
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()


async def test_a_bucket_cannot_be_emptied_by_a_rollup_header(streams: NatsServer) -> None:
    """A write that asks the server to roll up the whole bucket is refused: it would be a purge by another name."""
    async with connected(streams, "ingest") as (connection, _):
        js = connection.jetstream()
        await js.publish(subjects.kv(subjects.RECORDS, "t.kept"), b"{}")
        with pytest.raises(nats.js.errors.APIError):
            await js.publish(subjects.kv(subjects.RECORDS, "t.other"), b"{}", headers={"Nats-Rollup": "all"})
        kept = await js.get_last_msg(subjects.KV_RECORDS, subjects.kv(subjects.RECORDS, "t.kept"), direct=True)
        assert kept.data == b"{}"
