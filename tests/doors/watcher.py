"""Who follows jobs: a client of the socket, a client of server-sent events, and an engine's hand that makes events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from services.contracts import subjects
from services.contracts.events import SegmentsEvent
from services.contracts.transcript import Segment
from services.runtime.bus import Bus
from tests.doors.caller import Caller, Front

PATIENCE = 60.0
"""Seconds that a test waits for a message at most."""


@dataclass(frozen=True)
class Socket:
    """An open socket."""

    ws: aiohttp.ClientWebSocketResponse

    async def say(self, **message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def watch(self, job: str, after: str | None = None) -> dict[str, Any]:
        """Begin a watch; the server's `watching`, or what it answered instead."""
        await self.say(type="watch", job_id=job, **({"after": after} if after else {}))
        return await self.next()

    async def next(self) -> dict[str, Any]:
        """The next message."""
        message = await self.ws.receive(timeout=PATIENCE)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.ws.close_code)
        found = json.loads(message.data)
        assert isinstance(found, dict)
        return found

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next so many messages, which are all events."""
        found = [await self.next() for _ in range(count)]
        assert {message["type"] for message in found} <= {"event"}, found
        return found

    async def to_the_end(self) -> list[dict[str, Any]]:
        """All events up to a state that is the last."""
        found = [await self.next()]
        while found[-1]["data"].get("state") not in ("completed", "failed", "cancelled", "erased"):
            found.append(await self.next())
        return found

    async def quiet(self) -> None:
        """Nothing is on its way: whatever was asked before has been answered."""
        await self.say(type="ping")
        assert await self.next() == {"type": "pong"}

    async def closed(self) -> int | None:
        """The code with which the service closes, and nothing comes before."""
        message = await self.ws.receive(timeout=PATIENCE)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
        return self.ws.close_code


@asynccontextmanager
async def socket(caller: Caller, path: str = "/ws", base: str | None = None, **more: Any) -> AsyncIterator[Socket]:
    """A socket with the caller's key in a header."""
    headers = {"x-api-key": caller.key} if caller.key else {}
    address = (base or caller.base) + path
    async with caller.session.ws_connect(address, headers=headers, **more) as ws:
        yield Socket(ws)


async def refused(caller: Caller, path: str = "/ws", base: str | None = None, **more: Any) -> tuple[int, str]:
    """Status and code with which a socket is refused."""
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} | more.pop("headers", {})
    reply = await Caller(caller.session, base or caller.base, caller.key)("GET", path, headers=headers, **more)
    return reply.status, reply.code


async def sse(caller: Caller, job: str, after: str | None = None) -> AsyncIterator[tuple[str, str | None, Any]]:
    """Server-sent events of a job until the response ends: name, id and data of each."""
    headers = {"x-api-key": caller.key or ""} | ({"Last-Event-ID": after} if after else {})
    async with caller.session.get(f"{caller.base}/jobs/{job}/events", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE):
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields.get("id"), json.loads(fields["data"])
                    fields = {}


async def heard(bus: Bus, tenant: str, job: str, part: int, text: str = "word") -> None:
    """The words of a part, as an engine sends them."""
    segment = Segment(start=part, end=part + 1, text=text)
    event = SegmentsEvent(job=job, part=part, start=part, end=part + 1, segments=(segment,))
    await bus.publish(subjects.segments(tenant, job), event)


def parts(events: list[dict[str, Any]]) -> list[int]:
    """The parts whose words these events hold, in their order."""
    return [event["data"]["part"] for event in events if event["kind"] == "segments"]


async def with_parts(front: Front, me: Caller, count: int, name: bytes = b"watched") -> tuple[str, str]:
    """A job of which so many parts were heard; its tenant and its id."""
    job = await me.submit(name)
    tenant = await front.tenant_of(job)
    async with asyncio.timeout(PATIENCE):
        # Its state becomes an event by itself; what follows is to come after it.
        while not await front.bus.pending(subjects.RESULTS, subjects.state(tenant, job)):
            await asyncio.sleep(0.01)
    for part in range(count):
        await heard(front.bus, tenant, job, part)
    return tenant, job


async def read_all(me: Caller, job: str, after: str | None = None) -> list[tuple[str, str | None, Any]]:
    """Every server-sent event of a job until the response ends."""
    return [event async for event in sse(me, job, after)]


async def ticket(me: Caller) -> str:
    """A fresh ticket."""
    reply = await me("POST", "/tickets")
    assert reply.status == 201
    return str(reply.json()["ticket"])
