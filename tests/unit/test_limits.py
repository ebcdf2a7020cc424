"""Limits of the door that need no server: places for uploads, and addresses behind proxies."""

import asyncio
import socket
import threading
import time
from contextlib import ExitStack
from io import BytesIO

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from pydantic import ValidationError

from services.contracts.errors import Code, Problem
from services.ingest.limits import GIVING_WAY, LARGE, SHORT, Bodies, address_of
from services.ingest.settings import Settings


def test_one_tenant_takes_a_quarter_of_the_places() -> None:
    """A tenant's uploads never keep another's out; all of them together are bounded; a place that is free is free."""
    bodies = Bodies(Settings(max_uploads=8))
    with ExitStack() as held:
        for tenant in ("a", "a", "b", "b", "c", "c", "d"):
            held.enter_context(bodies.one(tenant))
        with pytest.raises(Problem) as caught, bodies.one("a"):
            pass
        assert caught.value.code == Code.RATE_LIMIT
        held.enter_context(bodies.one("d"))
        with pytest.raises(Problem), bodies.one("e"):
            pass
    with bodies.one("e"):
        pass


async def test_a_large_body_gives_way_to_who_waits_for_a_short_one() -> None:
    """Beyond its first megabytes it is paced while somebody waits for a clip's words, and never otherwise."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    bodies = Bodies(Settings(), sleep, lambda: 0.0)
    more = 3 << 20

    async def take(request: web.Request) -> web.Response:
        clip = make_mocked_request("POST", "/", headers={"Content-Length": request.query["beside"]})
        with bodies.waited_for(clip):
            size = sum([len(data) async for data in bodies.body(request, 1 << 30)])
        return web.json_response([size, sum(slept)])

    app = web.Application()
    app.router.add_post("/", take)
    async with TestClient(TestServer(app)) as client:
        for beside, size, paused in ((SHORT + 1, LARGE + more, 0.0), (SHORT, LARGE, 0.0), (SHORT, LARGE + more, 1.0)):
            answer = await client.post("/", params={"beside": beside}, data=BytesIO(bytes(size)))
            received, pauses = await answer.json()
            assert received == size
            # The piece in which the limit is passed counts whole, or not at all.
            assert pauses == pytest.approx(paused * more / GIVING_WAY, abs=0.05)


async def test_a_body_that_came_while_we_stood_still_is_not_slow() -> None:
    """What has arrived when the time is up is taken, however late this process looks; what has not is refused."""
    grace = 0.2
    bodies, waits, sent = Bodies(Settings(upload_grace=grace)), threading.Event(), threading.Event()

    def stand_still() -> None:
        waits.set()
        sent.wait(30)
        time.sleep(2 * grace)

    async def take(request: web.Request) -> web.Response:
        asyncio.get_running_loop().call_later(grace / 10, stand_still)
        try:
            return web.json_response(sum([len(data) async for data in bodies.body(request, 1 << 20)]))
        except Problem as problem:
            return web.json_response(problem.code)

    def client(port: int, body: bytes, answer: bytes) -> bytes:
        read = b""
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")
            waits.wait(30)
            connection.sendall(body)
            sent.set()
            while not read.endswith(answer) and (more := connection.recv(1 << 16)):
                read += more
        return read

    app = web.Application()
    app.router.add_post("/", take)
    async with TestServer(app) as server:
        for body, answer in ((b"all of it", b"9"), (b"a part", b'"upload_too_slow"')):
            waits.clear()
            sent.clear()
            assert (await asyncio.to_thread(client, server.port or 0, body, answer)).endswith(answer)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "192.0.2.1, 198.51.100.1, 10.0.0.5", "198.51.100.1"),
    ],
)
def test_addresses_are_believed_from_proxies_alone(peer: str, forwarded: str | None, address: str) -> None:
    """The client is the last hop that no proxy of ours is; a stranger's header is not believed."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert address_of(request, ("10.0.0.5",)) == address


def test_the_default_language_must_be_one() -> None:
    """A wrong default language is said at the start and not by every job; a name does as well as a code."""
    assert Settings(default_language="Turkish").default_language == "tr"
    assert Settings(default_language="").default_language is None
    with pytest.raises(ValidationError):
        Settings(default_language="klingon")
