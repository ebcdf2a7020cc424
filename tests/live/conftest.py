"""The whole service with the real engine; English, by the small model that comes with the installation."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import Unavailable
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE
from tests.support import operator_of

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


@pytest.fixture(scope="package")
async def bus(stack: Stack) -> AsyncIterator[Bus]:
    """The operator's connection to the bus."""
    async with connect_bus(operator_of(stack)) as bus:
        yield bus


@pytest.fixture
async def me(stack: Stack, session: aiohttp.ClientSession, bus: Bus) -> Caller:
    """A fresh tenant with a key, while nobody speaks: a session keeps its place for a moment beyond its summary."""
    async with asyncio.timeout(PATIENCE):
        while await speaking(bus):
            await asyncio.sleep(0.05)
    return await Caller(session, stack.http_url).sign_up()


async def speaking(bus: Bus) -> bool:
    """Whether a session takes a place, or may do so."""
    with suppress(Unavailable):
        opened, done = [
            {subject.split(".")[1] for subject in await bus.counts(subjects.LIVE, pattern)}
            for pattern in (subjects.ALL_LIVE_OPEN, subjects.ALL_LIVE_DONE)
        ]
        return bool(opened - done)
    return True
