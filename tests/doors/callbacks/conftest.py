"""One service for those who leave it whole."""

from collections.abc import AsyncIterator

import pytest

from tests.doors.callbacks.house import House, running


@pytest.fixture(scope="package")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Shared by the files of this folder."""
    async with running(tmp_path_factory.mktemp("callbacks")) as it:
        yield it
