"""The front of the service alone: bus, store, keys and ingest, with limits narrow enough to be reached."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from infra.stack import Stack
from services.runtime.blobs import open_blobs
from services.runtime.bus import connect_bus
from services.runtime.records import Records
from tests.doors.caller import LIMIT, Caller, Front
from tests.doors.publisher import Publisher, publishing
from tests.support import operator_of

NARROW = {
    "DESIFRE_MAX_UPLOAD": str(LIMIT),
    "DESIFRE_UPLOAD_GRACE": "6",  # this process may stand still for a while in the middle of what it sends
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
        operator = operator_of(stack)
        async with connect_bus(operator) as bus, open_blobs(operator) as blobs:
            yield Front(stack, Caller(session, stack.http_url), bus, blobs, Records(bus, blobs))


@pytest.fixture
async def me(front: Front) -> Caller:
    """A fresh tenant with a key."""
    return await front.nobody.sign_up()


@pytest.fixture
async def publisher(front: Front) -> AsyncIterator[Publisher]:
    """A fresh tenant whose service was let onto the bus."""
    async with publishing(front) as publisher:
        yield publisher
