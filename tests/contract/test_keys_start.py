"""How the keys service starts and stops, as a process of its own on a real bus."""

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from infra.stack import Stack, ports
from services.contracts import subjects
from services.contracts.auth import Admit, Granted, fingerprint
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, State, Timings
from services.keys.admin import NOT_TOLD
from services.runtime.bus import Bus
from tests.contract.keys_process import PATIENCE, bus_of, running
from tests.contract.keys_support import PEPPER
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
        _, logs = await asyncio.wait_for(there.process.communicate(), PATIENCE)
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
    _, logs = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == os.EX_CONFIG  # the launcher shows the last line and does not try again
    assert logs.splitlines()[-1].startswith(
        b"DESIFRE_KEYS_PEPPER: The keys in the database were made under another one"
    )
    assert b"Traceback" not in logs


async def test_the_operator_needs_neither_the_service_nor_the_bus(tmp_path: Path) -> None:
    """On a new home with nothing running a key can be made and revoked, and it is said that nobody was told."""
    missing = ports.assign(["nats"], {})["nats"]
    env = {
        "PATH": os.environ["PATH"],
        "DESIFRE_NATS_URL": f"nats://127.0.0.1:{missing}",
        "DESIFRE_KEYS_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'new' / 'keys.db'}",
        "DESIFRE_KEYS_PEPPER": PEPPER,
    }

    async def admin(*arguments: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "services.keys.admin", *arguments]
        process = await asyncio.create_subprocess_exec(*command, env=env, stdout=-1, stderr=-1)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode(), err.decode()

    out, _ = await admin("create", "--username", "crew", "--days", "0")
    key_id = dict(line.split("\t") for line in out.splitlines())["key_id"]
    assert await admin("revoke", key_id) == (f"{key_id} revoked\n", NOT_TOLD + "\n")
    assert (await admin("list"))[0].rstrip().endswith("revoked")


@pytest.mark.parametrize("module", ["services.keys", "services.keys.admin"])
async def test_a_pepper_that_is_too_short_is_refused_and_not_shown(module: str) -> None:
    """Neither the service nor a command starts with a short pepper, and neither repeats it."""
    env = {"PATH": os.environ["PATH"], "DESIFRE_KEYS_PEPPER": "pepper-too-short"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, "list", env=env, stderr=-1)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode != 0
    assert b"KEYS_PEPPER" in err.upper()
    assert b"pepper-too-short" not in err


async def test_what_was_answered_survives_a_kill(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> None:
    """A key that was shown and a job that was admitted are there after `kill -9` of the service."""
    job = new_job_id()
    async with running(nats_server, tmp_path, bus) as there:
        made = await there.sign_up()
        ask = Admit(tenant=made.tenant, key_id=made.key_id, job=job, bytes=7)
        await bus.request(subjects.KEYS_ADMIT, ask, Granted)
        there.process.kill()
        await there.process.communicate()
    async with running(nats_server, tmp_path, bus) as there:
        assert (await there.verify(made.api_key)).tenant == made.tenant
        used = await there.usage(made.tenant)
        assert (used.unfinished_jobs, used.bytes) == (1, 7)


async def test_it_outlives_the_bus(tmp_path: Path) -> None:
    """After `kill -9` of the bus and its restart keys are verified and ends of jobs settled by the same process."""
    async with Stack(tmp_path / "stack", services=["nats"]) as stack:
        users = {user: stack.nats_password(user) for user in ("ingest", "keys")}
        server = NatsServer(stack.nats_url, users, stack)
        async with bus_of(server, "ingest") as bus, running(server, tmp_path / "keys", bus) as there:
            made, job = await there.sign_up(), new_job_id()
            await bus.request(subjects.KEYS_ADMIT, Admit(tenant=made.tenant, key_id="k", job=job, bytes=7), Granted)
            stack.process("nats").kill()
            await stack.process("nats").wait_run(2)
            await stack.wait_all_ready()
            assert (await there.verify(made.api_key)).tenant == made.tenant
            end = Record(
                job=job, tenant=made.tenant, key_id="k", door=Door.HTTP, lane=Lane.INTERACTIVE, model="base",
                state=State.COMPLETED, seconds=3.0, size=7, timings=Timings(accepted=time.time()),
            )  # fmt: skip
            await bus.kv(subjects.RECORDS).put(subjects.record(made.tenant, job), end.encode())
            used = await there.settled(made.tenant, lambda used: used.unfinished_jobs == 0)
            assert used.seconds_today == 3.0
            assert there.process.returncode is None
