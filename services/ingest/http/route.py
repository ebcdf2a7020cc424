"""A route and what the reference says of it: one table gives the router, the access rules and the documentation."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code
from services.ingest.problems import PROBLEM, ErrorShape

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLAIMS: web.RequestKey[Claims] = web.RequestKey("claims", Claims)
FINGERPRINT: web.RequestKey[str] = web.RequestKey("fingerprint", str)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
SHAPE: web.RequestKey[ErrorShape] = web.RequestKey("shape", ErrorShape)


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter in the path, the query or a header."""

    name: str
    text: str
    where: Literal["path", "query", "header"] = "query"
    kind: Literal["string", "integer", "number", "boolean"] = "string"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a route: what it means and what it holds."""

    text: str
    model: type[BaseModel] | None = None
    media: tuple[str, ...] = ("application/json",)


@dataclass(frozen=True, slots=True)
class Body:
    """What a route reads: the fields of a form, a JSON document, a recording as it is."""

    json: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    recording: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """Method and path (aiohttp's template) with its handler; `scope` is what the key must have, None = no key.

    `socket`: a WebSocket, where key or ticket may also come as a sub-protocol or in the path, since browsers send no
    headers of their own there. `free_query`: the handler reads the query itself and tells what it does not know, or
    other people's programs add words of their own; everywhere else a parameter that is not in `params` is refused.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Answer]
    scope: Scope | None = None
    params: tuple[Param, ...] = ()
    body: Body | None = None
    socket: bool = False
    free_query: bool = False
    errors: tuple[Code, ...] = field(default=())
    shape: ErrorShape = PROBLEM


def claims(request: web.Request) -> Claims:
    """Who asks: there on every route with a scope."""
    return request[CLAIMS]


def digest_of(request: web.Request) -> str:
    """The fingerprint of the key that was shown, by itself or by a ticket: there on every route with a scope."""
    return request[FINGERPRINT]


def template(request: web.Request) -> str:
    """The route's template: what logs and metrics may hold, where a path may hold a key."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"
