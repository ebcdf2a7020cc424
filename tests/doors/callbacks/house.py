"""A service whose callbacks go to receivers of the test's own, and soon again."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from infra.stack import Stack
from tests.doors.caller import Caller
from tests.doors.receiver import Receiver, receiving
from tests.media import encode, talk

TALK = encode(talk(2.0), "wav")
RETRIES = [0.3, 0.3, 0.3, 60]
"""Seconds before each further call, in place of days."""
TIMEOUT = 8
"""Seconds that a receiver has; more than a busy machine keeps this process from answering."""
LEASE = 2
"""Seconds after which the callbacks of an ingest that was killed come again."""


@dataclass(frozen=True, slots=True)
class House:
    """The whole service with the digest engine, and two receivers that the operator listed."""

    stack: Stack
    nobody: Caller
    receiver: Receiver
    other: Receiver

    async def sign_up(self) -> Caller:
        """A fresh tenant with a key."""
        return await self.nobody.sign_up()


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[House]:
    """A house that is ready."""
    async with receiving() as receiver, receiving() as other:
        ingest = {
            "DESIFRE_CALLBACK_HTTP": "true",
            "DESIFRE_CALLBACK_HOSTS": json.dumps([f"127.0.0.1:{one.port}" for one in (receiver, other)]),
            "DESIFRE_CALLBACK_RETRIES": json.dumps(RETRIES),
            "DESIFRE_CALLBACK_TIMEOUT": str(TIMEOUT),
            "DESIFRE_CALLBACK_LEASE": str(LEASE),
            "DESIFRE_DROP_EVERY": "1",
            "DESIFRE_RECONCILE_EVERY": "1",
            "DESIFRE_PUBLIC_URL": "https://stt.example/",
            "DESIFRE_FAILPOINT": f"file@{home}/failpoint",
        }
        settings = {"transcriber": {"DESIFRE_ENGINE": "digest"}, "ingest": ingest}
        async with (
            Stack(home, settings=settings, longest_restart_delay=0.05) as stack,
            aiohttp.ClientSession() as session,
        ):
            yield House(stack, Caller(session, stack.http_url), receiver, other)


def recording(n: int = 0) -> bytes:
    """Two seconds of what sounds like speech, different for each `n` in its last two samples."""
    return TALK[:-4] + n.to_bytes(4, "little")


async def log_of(caller: Caller, job: str, state: str | None = None) -> dict[str, Any]:
    """The log of a job's callback, once it is in this state."""
    async with asyncio.timeout(90):
        while True:
            reply = await caller("GET", f"/jobs/{job}/deliveries")
            found: dict[str, Any] = reply.json()
            if reply.status == 200 and (state is None or found["state"] == state):
                return found
            assert reply.status in (200, 503), reply.body  # bus or store may be late
            await asyncio.sleep(0.05)


async def secret_of(caller: Caller) -> str:
    """A fresh secret for the caller's key."""
    reply = await caller("POST", f"/keys/{caller.key_id}/webhook-secret")
    assert reply.status == 201, reply.body
    return str(reply.json()["secret"])


async def restart(house: House) -> None:
    """`kill -9` of ingest, and wait until it is there again."""
    ingest = house.stack.process("ingest")
    run = ingest.runs
    ingest.kill()
    await ingest.wait_run(run + 1)
