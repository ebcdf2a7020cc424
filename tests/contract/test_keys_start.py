"""How the keys service starts and stops, as a process of its own on a real bus."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts.auth import fingerprint
from services.runtime.bus import Bus
from tests.contract.keys_process import bus_of, running
from tests.support import NatsServer


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with bus_of(nats_server, "ingest") as bus:
        yield bus


async def test_it_drains_and_writes_what_it_knows(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    """On SIGTERM it exits with 0, having written when keys were used, and with no key in its logs."""
    async with running(nats_server, tmp_path, bus) as there:
        made = await there.sign_up()
        await there.verify(made.api_key)
        there.process.terminate()
        _, logs = await asyncio.wait_for(there.process.communicate(), 10)
    assert there.process.returncode == 0
    assert made.api_key.encode() not in logs
    assert fingerprint(made.api_key).encode() not in logs
    with closing(sqlite3.connect(tmp_path / "keys" / "keys.db")) as database:
        assert database.execute("SELECT last_used FROM keys").fetchone()[0] > 0


async def test_a_lost_pepper_is_said_at_the_start(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    """With another pepper than all keys were made under the service does not start, and says why."""
    async with running(nats_server, tmp_path, bus) as there:
        await there.sign_up()
    env = there.env | {"DESIFRE_KEYS_PEPPER": "another-pepper-that-is-long-enough-as-well"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.keys", env=env, stderr=-1)
    _, logs = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode != 0
    assert b"DESIFRE_KEYS_PEPPER" in logs
