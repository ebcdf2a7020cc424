"""The aiohttp server: connection hygiene, and a log that quotes no request."""

import contextlib
import logging
import resource
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp.http_parser
from aiohttp import web

from services.ingest.http.guard import Guard, around, finish
from services.ingest.http.route import Route
from services.ingest.limits import expect
from services.ingest.settings import Settings
from services.runtime.metrics import Metrics

DRAIN = 2.0
"""Seconds that open requests have at the end; those that wait for a job are ended before."""


class UnsafeServer(Exception):  # noqa: N818 - it names what is wrong
    """This Python runs a parser of HTTP that is known to be unsafe."""


def application(routes: Iterable[Route], guard: Guard, metrics: Metrics) -> web.Application:
    """The router, from the table of routes."""
    app = web.Application(middlewares=[around(metrics)], client_max_size=1 << 20)
    app.on_response_prepare.append(finish)
    for route in routes:
        app.router.add_route(route.method, route.path, guard.keyed(route), expect_handler=expect)
    return app


@asynccontextmanager
async def serve(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    """Listen while the context is open."""
    if not aiohttp.http_parser.HttpRequestParser.__module__.endswith("_http_parser") or not __debug__:
        # The one in Python let requests be smuggled, and under -O it dropped its checks (CVE-2025-69225, -69227).
        raise UnsafeServer("aiohttp needs its C parser, and Python must not run with -O")
    _allow_many_sockets()
    runner = web.AppRunner(
        app,
        access_log=None,  # it would print paths; the middleware logs route templates
        logger=_quiet_logger(),
        keepalive_timeout=15,
        lingering_time=5,
        shutdown_timeout=DRAIN,
        max_line_size=8190,
        max_field_size=8190,
        read_bufsize=256 << 10,
        auto_decompress=False,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port, backlog=512).start()
        yield
    finally:
        await runner.cleanup()


def _allow_many_sockets() -> None:
    """Take as many open files as this process may have: many systems give 1,024 to who does not ask."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _quiet_logger() -> logging.Logger:
    """aiohttp's errors quote the bytes of a request, keys among them: only the kind of the error stays."""

    def strip(record: logging.LogRecord) -> bool:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "unknown"
        record.msg, record.args, record.exc_info = f"a request could not be read: {kind}", (), None
        return True

    logger = logging.getLogger("services.ingest.http")
    logger.addFilter(strip)
    return logger
