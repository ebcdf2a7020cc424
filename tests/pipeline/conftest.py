"""The whole service with the real engine, as a user meets it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from infra.stack import Stack
from tests.doors.caller import Caller


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder that every real engine of a session shares: the weights are put together once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="package")
async def whisper(tmp_path_factory: pytest.TempPathFactory, models: Path) -> AsyncIterator[Stack]:
    """The whole service with Whisper, ready. Parts are short, so that a recording of a minute has several."""
    short = {"DESIFRE_PART_SECONDS_FIRST": "10", "DESIFRE_PART_SECONDS_MIN": "10", "DESIFRE_PART_SECONDS_MAX": "30"}
    settings = {"transcriber": {"DESIFRE_MODELS_DIR": str(models), **short}}
    async with Stack(tmp_path_factory.mktemp("whisper"), settings=settings) as stack:
        yield stack


@pytest.fixture(scope="package")
async def me(whisper: Stack) -> AsyncIterator[Caller]:
    """Somebody with a key."""
    async with aiohttp.ClientSession() as session:
        yield await Caller(session, whisper.http_url).sign_up()
