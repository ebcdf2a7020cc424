"""A receiver of callbacks: a real HTTP server that answers as a test tells it, and keeps what it was sent."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call, whole."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answers`: for each path the answers to come, the last of them for ever; 204 for a path without any."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, list[Handler]] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Call]:
        """The calls of one path, oldest first."""
        return [call for call in self.calls if call.path == path]

    async def called(self, path: str, times: int = 1, patience: float = 60) -> list[Call]:
        """The calls of one path, once there are so many."""
        async with asyncio.timeout(patience), self.changed:
            await self.changed.wait_for(lambda: len(self.at(path)) >= times)
        return self.at(path)

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.calls.append(Call(request.path, dict(request.headers), body, time.time()))
        async with self.changed:
            self.changed.notify_all()
        answers = self.answers.get(request.path) or [status(204)]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return await answer(request)


def status(code: int, text: str = "", **headers: str) -> Handler:
    """An answer at once."""

    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=text, headers=named)

    return answer


def silence(until: asyncio.Event) -> Handler:
    """No answer before the test says so."""

    async def answer(_: web.Request) -> web.Response:
        await until.wait()
        return web.Response(status=204)

    return answer


def flood(code: int) -> Handler:
    """An answer that never ends, as fast as it is read."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"\x1b[31mflood\n" * 10_000)
        return response

    return answer


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver that listens on a free port of the loopback, with TLS where it has a certificate."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("POST", "/{rest:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()
