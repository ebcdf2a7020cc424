"""The whole service with the real engine; English, by the small model that comes with the installation."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from infra.stack import Stack
from tests.doors.caller import Caller

SETTINGS = {
    "transcriber": {"DESIFRE_LIVE_SESSIONS": "2"},
    "ingest": {"DESIFRE_DEFAULT_MODEL": "tiny.en", "DESIFRE_RATE_LIMIT": "100000/minute"},
}


@pytest.fixture(scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Ready."""
    async with Stack(tmp_path_factory.mktemp("live"), settings=SETTINGS, longest_restart_delay=0.05) as started:
        yield started


@pytest.fixture(scope="package")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


@pytest.fixture
async def me(stack: Stack, session: aiohttp.ClientSession) -> Caller:
    """A fresh tenant with a key."""
    return await Caller(session, stack.http_url).sign_up()
