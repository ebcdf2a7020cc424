"""The keys service as a process of its own on a real bus, for the tests that ask it as ingest asks it."""

import asyncio
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from typer.testing import CliRunner

from infra.stack import ports
from services.contracts import subjects
from services.contracts.auth import Claims, CreateKey, NewKey, Usage, UsageRequest, Verify, fingerprint
from services.keys.admin import commands
from services.runtime.bus import Bus, connect_bus
from services.runtime.patience import until_there
from services.runtime.settings import Settings
from tests.contract.keys_support import PEPPER
from tests.support import NatsServer

PATIENCE = 60.0
"""Seconds for which a test waits for what must come."""


@dataclass
class Running:
    """A keys process, and a bus on which one is ingest."""

    bus: Bus
    env: dict[str, str]
    ops: int
    process: asyncio.subprocess.Process

    async def sign_up(self) -> NewKey:
        ask = CreateKey(username="somebody", address="127.0.0.1")
        return await until_there(lambda: self.bus.request(subjects.KEYS_CREATE, ask, NewKey))

    async def verify(self, api_key: str) -> Claims:
        ask = Verify(fingerprint=fingerprint(api_key))
        return await until_there(lambda: self.bus.request(subjects.KEYS_VERIFY, ask, Claims))

    async def usage(self, tenant: str) -> Usage:
        return await until_there(lambda: self.bus.request(subjects.KEYS_USAGE, UsageRequest(tenant=tenant), Usage))

    async def settled(self, tenant: str, reached: Callable[[Usage], bool]) -> Usage:
        """The usage once it is so; settlement follows the events."""
        async with asyncio.timeout(PATIENCE):
            while not reached(used := await self.usage(tenant)):
                await asyncio.sleep(0.02)
        return used

    async def admin(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of an operator's command."""
        done = await asyncio.to_thread(CliRunner().invoke, commands, arguments, env=self.env)
        return done.exit_code, done.stdout, done.stderr

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(fetch, f"http://127.0.0.1:{self.ops}{path}")


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@asynccontextmanager
async def running(nats_server: NatsServer, folder: Path, bus: Bus, **more: str) -> AsyncIterator[Running]:
    reserved = ports.Reservations()
    ops = ports.assign(["ops"], {}, reserved=reserved)["ops"]
    env = {
        "PATH": os.environ["PATH"],
        "DESIFRE_HOME": str(folder),
        "DESIFRE_NATS_URL": nats_server.url,
        "DESIFRE_NATS_USER": "keys",
        "DESIFRE_NATS_PASSWORD": nats_server.users["keys"],
        "DESIFRE_KEYS_DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'keys' / 'keys.db'}",
        "DESIFRE_KEYS_PEPPER": PEPPER,
        "DESIFRE_OPS_PORT": str(ops),
    } | more
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.keys", env=env, stderr=-1)
    there = Running(bus, env, ops, process)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await ready(there):
                assert process.returncode is None, (await process.communicate())[1].decode()
                await asyncio.sleep(0.05)
        yield there
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.communicate(), PATIENCE)
        reserved.release()


async def ready(there: Running) -> bool:
    try:
        return (await there.get("/readyz"))[0] == 200
    except OSError:
        return False


@asynccontextmanager
async def bus_of(nats_server: NatsServer, user: str) -> AsyncIterator[Bus]:
    """A connection with that user's permissions."""
    settings = Settings(
        home=Path(), nats_url=nats_server.url, nats_user=user, nats_password=nats_server.users[user]
    )  # fmt: skip
    async with connect_bus(settings) as bus:
        yield bus
