"""The front of the service alone: bus, store, keys and ingest, with limits narrow enough to be reached."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr

from infra.stack import Stack
from services.runtime.blobs import open_blobs
from services.runtime.bus import connect_bus
from services.runtime.records import Records
from services.runtime.settings import Settings
from tests.doors.caller import LIMIT, Caller, Front

NARROW = {
    "DESIFRE_MAX_UPLOAD": str(LIMIT),
    "DESIFRE_UPLOAD_GRACE": "0.5",
    "DESIFRE_RATE_LIMIT": "300/minute",
    "DESIFRE_REFUSAL_LIMIT": "20/minute",
}


@pytest.fixture(scope="session")
async def front(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """The front, ready."""
    home = tmp_path_factory.mktemp("front")
    async with (
        Stack(home, services=["nats", "s3", "keys", "ingest"], settings={"ingest": NARROW}) as stack,
        aiohttp.ClientSession() as session,
    ):
        access, secret = stack.store_keys()
        settings = Settings(
            nats_url=stack.nats_url,
            nats_user="admin",
            nats_password=SecretStr(stack.nats_password()),
            store_endpoint=stack.store_endpoint,
            store_access_key=access,
            store_secret_key=SecretStr(secret),
        )
        async with connect_bus(settings) as bus, open_blobs(settings) as blobs:
            yield Front(stack, Caller(session, stack.http_url), bus, blobs, Records(bus, blobs))


@pytest.fixture
async def me(front: Front) -> Caller:
    """A fresh tenant with a key."""
    return await front.nobody.sign_up()
