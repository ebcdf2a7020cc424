"""What happens around every request: its id, its key, its limits, its errors, its line in the log and its metrics."""

import asyncio
import traceback
from time import perf_counter, time

from aiohttp import web
from aiohttp.typedefs import Handler as Next
from aiohttp.typedefs import Middleware

from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.ids import new_request_id
from services.ingest.auth import Authenticator, require
from services.ingest.http.route import CLAIMS, REQUEST_ID, SHAPE, Handler, Route, template
from services.ingest.limits import RateLimits, address_of
from services.ingest.problems import PROBLEM, problem_of
from services.ingest.settings import Settings
from services.runtime.logs import get_logger
from services.runtime.metrics import Metrics


class Guard:
    """Admits requests to handlers by their key."""

    def __init__(self, auth: Authenticator, limits: RateLimits, settings: Settings) -> None:
        self._auth = auth
        self._limits = limits
        self._proxies = settings.trusted_proxies

    def keyed(self, route: Route) -> Handler:
        """The route's handler behind its key, its rate limit and its scope."""
        scope = route.scope
        if scope is None:
            return route.handler

        async def handle(request: web.Request) -> web.StreamResponse:
            request[SHAPE] = route.shape
            who = await self._who(request)
            await self._limits.request(who.tenant)
            require(who, scope)
            request[CLAIMS] = who
            return await route.handler(request)

        return handle

    async def _who(self, request: web.Request) -> Claims:
        try:
            return await self._auth.verify(key_of(request))
        except Problem:
            await self._limits.refused(address_of(request, self._proxies))
            raise


def key_of(request: web.Request) -> str | None:
    """The key in `x-api-key`, or in `Authorization: Bearer`."""
    if key := request.headers.get("x-api-key"):
        return key.strip()
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def around(metrics: Metrics) -> Middleware:
    """The one middleware: whatever happens inside, an answer with a request id goes out, and no secret does."""
    log = get_logger()
    seconds = metrics.histogram("http_request_seconds", "time to answer", ("method", "route", "status"))

    @web.middleware
    async def middleware(request: web.Request, handler: Next) -> web.StreamResponse:
        begun = perf_counter()
        request_id = request[REQUEST_ID] = new_request_id()
        try:
            response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last stop: everything becomes an answer
            response = request.get(SHAPE, PROBLEM).render(_problem(error, request_id), request_id)
        route, spent = template(request), perf_counter() - begun
        method = request.method if route != "unmatched" else "other"
        seconds.labels(method, route, str(response.status)).observe(spent)
        log.info(
            "request",
            action=method,
            route=route,
            status=response.status,
            duration_ms=round(spent * 1000, 1),
            request_id=request_id,
        )
        return response

    def _problem(error: Exception, request_id: str) -> Problem:
        problem = problem_of(error)
        if problem is None:
            # Frames without the message: a message may quote what the client sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("a request failed", error=type(error).__name__, request_id=request_id, exception=frames)
            problem = Problem(Code.INTERNAL)
        return problem

    return middleware


async def finish(request: web.Request, response: web.StreamResponse) -> None:
    """Headers that every answer has, streamed ones too: for the application's `on_response_prepare`."""
    headers = response.headers
    if request_id := request.get(REQUEST_ID):
        headers["x-request-id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "desifre"
    headers.setdefault("Cache-Control", "no-store")
    who = request.get(CLAIMS)
    if who is not None and who.deprecated:
        # RFC 9745 wants a date; keys says only that the rotation is past.
        headers["Deprecation"] = f"@{int(time())}"
