"""Where a request shows its key, or a ticket in its place."""

from urllib.parse import urlsplit

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.contracts.stream import PROTOCOL
from services.ingest.tickets import is_ticket

IN_PATH = "api_key"
"""The variable of `/ws/{api_key}`."""
ANY_ORIGIN = "*"
TOKEN = "token"  # noqa: S105 - a word
"""Deepgram's word before a key: in `Authorization`, and as a sub-protocol with the key as the next one."""


def key_of(request: web.Request) -> str | None:
    """The key in `x-api-key`, or in `Authorization` after `Bearer`, or `Token` as Deepgram's clients have it."""
    if key := request.headers.get("x-api-key"):
        return key.strip()
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if kind.lower() in ("bearer", TOKEN) else None


def shown_on_socket(request: web.Request, *, key_in_path: bool) -> str | None:
    """Key or ticket: in a header, as the sub-protocol `key.…` or `ticket.…`, or in the path.

    A key in a path is refused as no key where the operator does not want it: paths lie about in other people's logs.
    """
    all_offered = protocols(request)
    if len(all_offered) == 2 and all_offered[0] == TOKEN:
        return all_offered[1]
    for offered in all_offered:
        kind, _, shown = offered.partition(".")
        if kind in ("key", "ticket") and shown:
            return shown
    in_path = request.match_info.get(IN_PATH)
    return key_of(request) or (in_path if in_path and (key_in_path or is_ticket(in_path)) else None)


def protocols(request: web.Request) -> list[str]:
    """The sub-protocols that a client offers."""
    # The first header only: it is the one that aiohttp answers.
    return [word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if word.strip()]


def check_protocols(request: web.Request) -> None:
    """Raise `Problem` MALFORMED where ours is not among those offered: aiohttp would log them all, keys too."""
    offered = protocols(request)
    if offered and PROTOCOL not in offered:
        raise Problem(Code.MALFORMED, f"Of the sub-protocols one must be {PROTOCOL}.")


def check_origin(request: web.Request, allowed: tuple[str, ...]) -> None:
    """Raise `Problem` ORIGIN for a page of another origin that is not allowed. No page, no origin."""
    origin = request.headers.get("Origin")
    if origin is None or origin in allowed or ANY_ORIGIN in allowed:
        return
    if urlsplit(origin).netloc != request.host:
        raise Problem(Code.ORIGIN)
