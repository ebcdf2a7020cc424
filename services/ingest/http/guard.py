"""What happens around every request: its id, its key, its limits, its errors, its line in the log and its metrics."""

import asyncio
import traceback
from time import perf_counter, time

from aiohttp import web
from aiohttp.typedefs import Handler as Next
from aiohttp.typedefs import Middleware
from structlog.contextvars import bound_contextvars

from services.contracts.auth import fingerprint
from services.contracts.errors import Code, Problem
from services.contracts.ids import new_request_id
from services.ingest.auth import Authenticator, require
from services.ingest.http.credentials import key_of, shown_on_socket
from services.ingest.http.queries import check_query
from services.ingest.http.route import CLAIMS, FINGERPRINT, REQUEST_ID, SHAPE, Handler, Route, template
from services.ingest.limits import RateLimits, address_of
from services.ingest.problems import PROBLEM, problem_of
from services.ingest.settings import Settings
from services.ingest.tickets import Tickets, is_ticket
from services.runtime.logs import get_logger
from services.runtime.metrics import Metrics


class Guard:
    """Admits requests to handlers by their key."""

    def __init__(self, auth: Authenticator, tickets: Tickets, limits: RateLimits, settings: Settings) -> None:
        self._auth = auth
        self._tickets = tickets
        self._limits = limits
        self._key_in_path = settings.key_in_path
        self._proxies = settings.trusted_proxies

    def keyed(self, route: Route) -> Handler:
        """The route's handler behind its key, its rate limit and its scope."""
        scope = route.scope
        if scope is None:

            async def open_to_all(request: web.Request) -> web.StreamResponse:
                check_query(request, route)
                return await route.handler(request)

            return open_to_all

        async def handle(request: web.Request) -> web.StreamResponse:
            request[SHAPE] = route.shape
            try:
                await self._identify(request, route)
            except Problem:
                await self._limits.refused(address_of(request, self._proxies))
                raise
            who = request[CLAIMS]
            await self._limits.request(who.tenant)
            require(who, scope)
            check_query(request, route)
            return await route.handler(request)

        return handle

    async def _identify(self, request: web.Request, route: Route) -> None:
        shown = shown_on_socket(request, key_in_path=self._key_in_path) if route.socket else key_of(request)
        if route.socket and shown is not None and is_ticket(shown):
            digest = await self._tickets.redeem(shown)
            who = await self._auth.known(digest)
        else:
            who, digest = await self._auth.verify(shown), fingerprint(shown or "")
        request[CLAIMS], request[FINGERPRINT] = who, digest


def around(metrics: Metrics) -> Middleware:
    """The one middleware: whatever happens inside, an answer with a request id goes out, and no secret does."""
    log = get_logger()
    seconds = metrics.histogram("http_request_seconds", "time to answer", ("method", "route", "status"))

    @web.middleware
    async def middleware(request: web.Request, handler: Next) -> web.StreamResponse:
        begun = perf_counter()
        request_id = request[REQUEST_ID] = new_request_id()
        trouble: dict[str, str | None] = {}
        try:
            # What is logged on the way, such as the job that it becomes, is found by the request.
            with bound_contextvars(request_id=request_id):
                response = await handler(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the last stop: everything becomes an answer
            problem = _problem(error, request_id)
            # Which part of the service is away; other details may hold what the client sent.
            trouble = {"code": problem.code} | ({"reason": problem.detail} if problem.code is Code.UNAVAILABLE else {})
            response = request.get(SHAPE, PROBLEM).render(problem, request_id)
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
            **trouble,
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
