"""Errors as a client sees them: `application/problem+json` (RFC 9457), rendered in one place.

A route that speaks another API's language has an `ErrorShape` of its own.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

from services.contracts.errors import ERRORS, Code, Problem
from services.runtime.jsapi import Unavailable
from services.runtime.reading import StoreFull

AWAY_RETRY = 5.0
"""Seconds after which to come back where nobody knows better."""


class ProblemDocument(BaseModel):
    """An error (RFC 9457). `code` is stable; some codes add members of their own."""

    type: str
    title: str
    status: int
    code: Code
    detail: str | None = None
    remedy: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How a route says what went wrong: media type and model for the reference, status and answer for the client.

    `render` takes the problem and the request's id.
    """

    media: str
    model: type[BaseModel]
    status: Callable[[Code], int]
    render: Callable[[Problem, str], web.Response]


def problem_of(error: Exception) -> Problem | None:
    """The problem that an exception means to the caller; None when it is a fault of ours."""
    match error:
        case Problem():
            return error
        case StoreFull():
            return Problem(Code.STORE_FULL, retry_after=60)
        case Unavailable():
            return Problem(Code.UNAVAILABLE, str(error), retry_after=AWAY_RETRY)
        case web.HTTPRequestEntityTooLarge():
            return Problem(Code.TOO_LARGE)
        case web.HTTPNotFound():
            return Problem(Code.NOT_FOUND)
        case web.HTTPMethodNotAllowed():
            return Problem(Code.METHOD, allowed=sorted(error.allowed_methods))
        case web.HTTPClientError():
            return Problem(Code.MALFORMED)
        case _:
            return None


def problem_headers(problem: Problem) -> dict[str, str]:
    """The headers that belong to a problem, however it is shown."""
    headers = {}
    after = problem.retry_after
    if after is None and problem.kind.retryable and problem.kind.status in (429, 503, 507):
        after = AWAY_RETRY
    if after is not None:
        # Whole seconds, rounded up: who comes a moment too early is refused again.
        headers["Retry-After"] = str(max(1, math.ceil(after)))
    if problem.kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.code == Code.METHOD:
        headers["Allow"] = ", ".join(map(str, problem.more.get("allowed", ())))  # type: ignore[call-overload]
    return headers


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """The document, its status and the headers that belong to it."""
    body = problem.body() | {"request_id": request_id}
    return web.Response(
        status=problem.kind.status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers=problem_headers(problem),
    )


PROBLEM = ErrorShape("application/problem+json", ProblemDocument, lambda code: ERRORS[code].status, problem_response)
"""What every route has that says nothing else."""
