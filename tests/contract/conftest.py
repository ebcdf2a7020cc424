"""Use cases on real servers of the module's own: a bus, a store and keys, without any engine."""

from collections.abc import AsyncIterator

import pytest

from infra.stack import Stack
from services.contracts.auth import Claims as Who
from tests.contract.ingest_support import Ingest, open_ingest, settings_of


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Servers that the module may break."""
    async with Stack(tmp_path_factory.mktemp("stack"), services=["nats", "s3", "keys"]) as stack:
        yield stack


@pytest.fixture(scope="module")
async def ingest(stack: Stack) -> AsyncIterator[Ingest]:
    async with open_ingest(settings_of(stack)) as ingest:
        yield ingest


@pytest.fixture
async def who(ingest: Ingest) -> Who:
    """A new tenant."""
    return await ingest.sign_up()
