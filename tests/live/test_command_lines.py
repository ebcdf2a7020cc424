"""`desifre live` over bad lines and at bad ends: the server here is a script, as a real one does not err when told to.

What a real server does is in the other files of this folder; these tests say what the client makes of it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import WSMsgType, web

from tests import media
from tests.doors.test_cli import Run, Shell

Line = Callable[["Session"], Awaitable[None]]
SECOND = 32_000
QUOTA = {"type": "error", "code": "quota_exceeded", "title": "The quota is used up"}


class Session:
    """One socket, from the server's side."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self.ws = ws
        self.first: dict[str, Any] = {}

    async def say(self, kind: str, **more: Any) -> None:
        await self.ws.send_str(json.dumps({"type": kind, **more}))

    async def ready(self, name: str, received: int = 0) -> None:
        await self.say("ready", session_id=name, job_id=name, received=received, warm=True)

    async def summary(self, seconds: float, **more: Any) -> None:
        await self.say("summary", **{"state": "completed", "duration": seconds, "text": "", **more})

    async def heard(self, size: int) -> None:
        """Take that many bytes of sound, and say so."""
        taken = 0
        while taken < size:
            taken += len((await self.ws.receive()).data)
        await self.say("received", received=size)

    async def sound(self) -> int:
        """Take what comes until `close`; how many bytes of sound it was."""
        size = 0
        async for message in self.ws:
            if message.type == WSMsgType.TEXT:
                assert json.loads(message.data) == {"type": "close"}
                break
            size += len(message.data)
        return size


class Server:
    """Answers each attempt by the next of its lines; a number is a status with which a socket is refused."""

    def __init__(self) -> None:
        self.lines: list[Line | int] = []
        self.firsts: list[dict[str, Any]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        refused = request.headers.get("upgrade") is None
        line = self.lines[0] if refused else self.lines.pop(0)
        if isinstance(line, int):
            if not refused:
                self.lines.insert(0, line)
            else:
                self.lines.pop(0)
            body = {"code": "unavailable", "title": "A part of the service is away"}
            return web.json_response(body, status=line, content_type="application/problem+json")
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        session = Session(ws)
        session.first = json.loads((await ws.receive()).data)
        self.firsts.append(session.first)
        await line(session)
        await ws.close()
        return ws


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Listening, with nothing to say yet."""
    server = Server()
    app = web.Application()
    app.router.add_get("/ws", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    yield server
    await runner.cleanup()


async def live(server: Server, folder: Path, *options: str, seconds: int = 4) -> Run:
    """The command with a recording of so many seconds."""
    path = folder / "talk.wav"
    path.write_bytes(media.encode(np.zeros(seconds * 16_000, dtype=np.int16), "wav"))
    shell = Shell({"DESIFRE_URL": server.url, "DESIFRE_KEY": "dsf_live_any"})
    return await asyncio.wait_for(shell("live", str(path), "--fast", *options), 60)


async def test_a_session_that_ends_by_an_error_is_no_success(server: Server, tmp_path: Path) -> None:
    """A session that ends as the quota is used up says so, and the exit code is not 0 although there are words."""

    async def line(session: Session) -> None:
        await session.ready("job_a")
        await session.summary(1.0, error=QUOTA)

    server.lines = [line]
    run = await live(server, tmp_path)
    assert run.code == 1
    assert "quota_exceeded: The quota is used up" in run.err


async def test_what_a_lost_session_did_not_take_goes_on_in_another(server: Server, tmp_path: Path) -> None:
    """Who comes back too late has the rest of the recording in a second session, all of it and nothing twice.

    Also where the place of the first one is not free yet.
    """
    sizes: list[int] = []

    async def breaks(session: Session) -> None:
        await session.ready("job_a")
        await session.heard(SECOND)

    async def lost(session: Session) -> None:
        await session.ready("job_a", SECOND)
        await session.summary(1.0)

    async def full(session: Session) -> None:
        await session.say("error", code="no_room_for_live", title="No room for another live session")
        await session.ws.close(code=1013)

    async def another(session: Session) -> None:
        await session.ready("job_b")
        sizes.append(await session.sound())
        await session.summary(3.0)

    server.lines = [breaks, lost, full, another]
    run = await live(server, tmp_path)
    assert run.code == 0
    assert [first["type"] for first in server.firsts] == ["start", "resume", "start", "start"]
    assert sizes == [3 * SECOND]
    assert "goes on in another one" in run.err


async def test_a_server_that_is_not_ready_yet_is_asked_again(server: Server, tmp_path: Path) -> None:
    """After a break 503, 429, and a `resume` that is refused for now only mean another attempt."""

    async def breaks(session: Session) -> None:
        await session.ready("job_a")

    async def not_now(session: Session) -> None:
        await session.say("error", code="rate_limited", title="Too many requests")
        await session.ws.close(code=4500)

    async def rest(session: Session) -> None:
        await session.ready("job_a")
        await session.sound()
        await session.summary(4.0)

    server.lines = [breaks, 503, 429, not_now, rest]
    run = await live(server, tmp_path)
    assert run.code == 0, run.err
    assert {first.get("session_id") for first in server.firsts[1:]} == {"job_a"}


async def test_breaks_of_a_long_session_are_not_counted(server: Server, tmp_path: Path) -> None:
    """A session may break as often as it likes when it is taken up again each time."""

    async def breaks(session: Session) -> None:
        await session.ready("job_a")

    async def rest(session: Session) -> None:
        await session.ready("job_a")
        await session.sound()
        await session.summary(4.0)

    server.lines = [*[breaks] * 32, rest]
    run = await live(server, tmp_path)
    assert run.code == 0, run.err


async def test_a_close_that_was_refused_for_now_is_repeated(server: Server, tmp_path: Path) -> None:
    """Who is told at the end that something is away says `close` again, and has the summary."""

    async def line(session: Session) -> None:
        await session.ready("job_a")
        await session.sound()
        await session.say("error", code="unavailable", title="A part of the service is away", retry_after=0.1)
        assert await session.sound() == 0
        await session.summary(4.0)

    server.lines = [line]
    run = await live(server, tmp_path)
    assert run.code == 0, run.err


@pytest.mark.long
async def test_a_connection_that_died_in_silence_is_noticed(server: Server, tmp_path: Path) -> None:
    """A server from which nothing comes any more, not even an answer to a ping, is left within half a minute."""

    async def silent(session: Session) -> None:
        await session.ready("job_a")
        transport = session.ws._req.transport if session.ws._req else None
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        await asyncio.sleep(35)

    async def rest(session: Session) -> None:
        await session.ready("job_a")
        await session.sound()
        await session.summary(4.0)

    server.lines = [silent, rest]
    run = await live(server, tmp_path)
    assert run.code == 0, run.err
    assert [first["type"] for first in server.firsts] == ["start", "resume"]
