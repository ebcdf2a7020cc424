"""A tenant's own service on the bus: what it was granted, what it publishes and reads."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import nats
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import PubAck

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import CreateKey, NewKey
from services.contracts.events import Record
from services.contracts.submit import Rejected
from services.runtime.bus import Bus
from tests.doors.caller import Front


def grant(stack: Stack, tenant: str) -> dict[str, str]:
    """What `desifre nats grant` prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", "nats-grant", tenant],
        env={"DESIFRE_HOME": str(stack.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@asynccontextmanager
async def logged_in(login: dict[str, str], complaints: list[str] | None = None) -> AsyncIterator[Client]:
    """A connection; the server may still be reading its users again. What it refuses is noted in `complaints`."""

    async def note(error: Exception) -> None:
        if complaints is not None:
            complaints.append(str(error).lower())

    async with asyncio.timeout(60):
        while True:
            nc = Client()
            try:
                await nc.connect(
                    login["url"],
                    user=login["user"],
                    password=login["password"],
                    allow_reconnect=False,
                    error_cb=note,
                )
                break
            except nats.errors.Error:
                await nc.close()  # who was refused still holds the socket
                await asyncio.sleep(0.05)
    try:
        yield nc
    finally:
        await nc.close()


@dataclass(frozen=True)
class Publisher:
    """A tenant's own service."""

    tenant: str
    nc: Client
    login: dict[str, str]
    complaints: list[str]

    @property
    def js(self) -> JetStreamContext:
        return self.nc.jetstream(domain=self.login["domain"], timeout=30)

    async def submit(self, headers: dict[str, str] | None = None, **message: Any) -> PubAck:
        return await self.raw(json.dumps(message).encode(), headers)

    async def raw(self, data: bytes, headers: dict[str, str] | None = None) -> PubAck:
        return await self.js.publish(subjects.submit(self.tenant), data, headers=headers, stream=subjects.SUBMIT)

    async def read(self, stream: str = subjects.RESULTS) -> bytes:
        """The next event for this tenant, waited for."""
        pull = await self.js.pull_subscribe_bind(subjects.reader(self.tenant), stream)
        async with asyncio.timeout(60):
            while True:
                try:
                    # One request as a rule: what comes for one that was given up would be nobody's for a while.
                    [message] = await pull.fetch(1, timeout=30)
                except (TimeoutError, nats.js.errors.Error):
                    await asyncio.sleep(0.05)
                    continue
                await message.ack_sync(timeout=30)
                return message.data

    async def record(self) -> Record:
        return Record.model_validate_json(await self.read())

    async def rejection(self) -> Rejected:
        return Rejected.model_validate_json(await self.read(subjects.REJECTED))


async def sign_up(bus: Bus) -> str:
    new = await bus.request(subjects.KEYS_CREATE, CreateKey(username="u", address="127.0.0.1"), NewKey)
    return new.tenant


@asynccontextmanager
async def publishing(front: Front) -> AsyncIterator[Publisher]:
    """A fresh tenant whose service was let onto the bus."""
    tenant = await sign_up(front.bus)
    login, complaints = await asyncio.to_thread(grant, front.stack, tenant), list[str]()
    async with logged_in(login, complaints) as nc:
        yield Publisher(tenant, nc, login, complaints)


def audio(data: bytes = b"sound") -> str:
    return base64.b64encode(data).decode()
