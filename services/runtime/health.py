"""Named health pings, and the small server that shows them where a service has no HTTP door of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from services.runtime.metrics import Metrics

Ping = Callable[[], Awaitable[None]]


class Health:
    """What must work for this process to be ready: each dependency by name, with a ping that raises if it is away."""

    def __init__(self, timeout: float = 2.0) -> None:
        self._pings: dict[str, Ping] = {}
        self._timeout = timeout

    def add(self, name: str, ping: Ping) -> None:
        """Watch one more dependency."""
        self._pings[name] = ping

    async def check(self) -> dict[str, str]:
        """Each name with `ok`, or the kind of its failure."""

        async def one(ping: Ping) -> str:
            try:
                await asyncio.wait_for(ping(), self._timeout)
            except Exception as error:  # noqa: BLE001 - a health check reports whatever went wrong
                return type(error).__name__
            return "ok"

        answers = await asyncio.gather(*(one(ping) for ping in self._pings.values()))
        return dict(zip(self._pings, answers, strict=True))


def ops_routes(health: Health, metrics: Metrics) -> list[web.RouteDef]:
    """`/livez` (the loop turns), `/readyz` (every dependency answers) and `/metrics` (Prometheus)."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        checks = await health.check()
        ready = all(answer == "ok" for answer in checks.values())
        body = {"status": "ok" if ready else "failing", "checks": checks}
        return web.json_response(body, status=200 if ready else 503)

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), content_type="text/plain", charset="utf-8")

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", show)]


@asynccontextmanager
async def ops_server(port: int, health: Health, metrics: Metrics) -> AsyncIterator[int]:
    """Serve those routes on the loopback address; yields the port."""
    app = web.Application()
    app.add_routes(ops_routes(health, metrics))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=15, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
