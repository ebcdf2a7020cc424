"""What an object store says on the bus, by its own user, as MinIO says it."""

import asyncio
import json
from collections.abc import Collection

import nats
from pydantic import SecretStr

from infra.nats import permissions
from services.contracts import subjects
from services.ingest.store_events import listening
from services.runtime.bus import connect_bus
from services.runtime.settings import Settings
from tests.support import NatsServer

TENANT = "abcdefgh01234567"


async def test_what_the_store_publishes_is_heard(nats_server: NatsServer) -> None:
    """The store's user gets its acknowledgement at a usual inbox, may say nothing else, and wakes the right tenant."""
    heard: asyncio.Queue[set[str]] = asyncio.Queue()
    complaints: list[str] = []

    def wake(tenants: Collection[str]) -> None:
        heard.put_nowait(set(tenants))

    async def note(error: Exception) -> None:
        complaints.append(str(error).lower())

    settings = Settings(
        nats_url=nats_server.url, nats_user="ingest", nats_password=SecretStr(nats_server.users["ingest"])
    )
    password = nats_server.stack.nats_password(permissions.STORE)
    record = {"s3": {"bucket": {"name": "drop"}, "object": {"key": f"{TENANT}%2Fin%2Fa+b.wav"}}}
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()
        store = await nats.connect(nats_server.url, user=permissions.STORE, password=password, error_cb=note)
        async with listening(bus, wake), asyncio.timeout(60):
            await bus.nc.flush()
            for data in (b"not json", json.dumps({"Records": [record]}).encode()):
                ack = await store.jetstream().publish(subjects.STORE_DROP, data)
                assert ack.stream == subjects.STORE
            assert await heard.get() == {TENANT}
            await store.publish(subjects.submit(TENANT), b"{}")
            await store.flush()
            await store.flush()
        await store.close()
    assert any("permissions violation" in each for each in complaints)
