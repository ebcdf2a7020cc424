"""Streamed results over HTTP: tickets for sockets, and a job's events as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.stream import Cursor
from services.ingest import messages
from services.ingest.feed import Begun, Feed, TooSlow
from services.ingest.follow import Backlog, Heard
from services.ingest.http.answers import answer, gone
from services.ingest.http.route import Answer, Param, Route, claims, digest_of
from services.ingest.settings import Settings
from services.ingest.streams import Streams
from services.ingest.tickets import LIFETIME, Tickets

HEARTBEAT = 20.0
"""Seconds between two comments on a stream on which nothing else happens."""
LOOK = 2.0
"""Seconds between two looks whether the client has hung up."""
STUCK = 10.0
"""Seconds in which a reader must have taken what was written."""


class Ticket(BaseModel):
    """What a socket takes in place of a key, once."""

    ticket: str
    expires: float = Field(description="Unix seconds")


class StreamRoutes:
    """The two routes."""

    def __init__(self, tickets: Tickets, streams: Streams, feed: Feed, settings: Settings) -> None:
        self._tickets = tickets
        self._streams = streams
        self._feed = feed
        self._backlog = settings.stream_backlog

    def routes(self) -> list[Route]:
        """Both, with what the reference says."""
        return [
            Route(
                "POST",
                "/tickets",
                self.ticket,
                f"Get a ticket that opens one socket within {LIFETIME:g} s, in place of the key",
                scope=Scope.STREAM,
                answers={201: Answer("The ticket", Ticket)},
            ),
            Route(
                "GET",
                "/jobs/{job}/events",
                self.events,
                "Follow a job by server-sent events, to its end",
                scope=Scope.READ,
                params=(
                    Param("job", "id of the job", "path"),
                    Param("Last-Event-ID", "the id of the last event seen: go on after it", "header"),
                    Param("after", "the same, where a header cannot be sent"),
                ),
                answers={
                    200: Answer("The events that were missed, then those that come", media=("text/event-stream",)),
                    204: Answer("Nothing follows: the job has ended, and its last event was seen", media=()),
                },
                errors=(Code.JOB_NOT_FOUND, Code.ERASED, Code.MALFORMED, Code.TOO_MANY_STREAMS),
            ),
        ]

    async def ticket(self, request: web.Request) -> web.StreamResponse:
        """A ticket for the key that asks."""
        ticket, until = await self._tickets.make(digest_of(request))
        return answer(Ticket(ticket=ticket, expires=until), 201)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A job's events."""
        who, job, after = claims(request), request.match_info["job"], _cursor(request)
        async with (
            self._streams.open(who, digest_of(request)) as open_stream,
            aclosing(self._feed.follow(who.tenant, job, after, Backlog(self._backlog))) as items,
        ):
            # Before the head is sent: what goes wrong until here is an answer of its own.
            head = [await anext(items)]
            if after is not None and _ended(head[0]):
                following = await anext(items, None)
                if following is None:
                    # Only this keeps a browser from coming back for ever.
                    return web.Response(status=204)
                head.append(following)
            source = _Source(request)
            await source.begin()
            try:
                ending = await open_stream.run("events", source.pump(job, head, items), source.beat())
                if ending is not None:
                    await source.write("closing", messages.closing(ending))
            except (ConnectionError, TimeoutError):
                source.abort()
            return source.response


class _Source:
    """One response of server-sent events."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse()
        self.response.content_type = "text/event-stream"
        self.response.headers["Cache-Control"] = "no-store"
        self.response.headers["X-Accel-Buffering"] = "no"  # a proxy would keep events back

    async def begin(self) -> None:
        """Send the head."""
        await self.response.prepare(self._request)

    async def pump(self, job: str, head: Sequence[Begun | Heard], items: AsyncIterator[Begun | Heard]) -> None:
        """Write the events, and why they end where that is not the job's end."""
        try:
            for item in head:
                await self._item(job, item)
            async for item in items:
                await self._item(job, item)
        except TooSlow as slow:
            await self.write("resync", messages.resync(job, slow))
        except Problem as problem:
            await self.write("error", messages.error(problem, job))

    async def beat(self) -> None:
        """Comment now and then, for the proxies between; returns when the client has hung up."""
        silent = 0.0
        while not gone(self._request):
            await asyncio.sleep(LOOK)
            silent += LOOK
            if silent >= HEARTBEAT:
                silent = 0.0
                await self._write(b":\n\n")

    async def write(self, event: str, text: str, cursor: Cursor | None = None) -> None:
        """One event; a cursor is its id."""
        head = f"id: {cursor}\n" if cursor else ""
        await self._write(f"{head}event: {event}\ndata: {text}\n\n".encode())

    def abort(self) -> None:
        """Break the connection to a client that has gone, or that takes nothing."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _item(self, job: str, item: Begun | Heard) -> None:
        if isinstance(item, Begun):
            await self.write("watching", messages.watching(job, item))
        else:
            await self.write(item.kind, item.text, item.cursor)

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(STUCK):
            await self.response.write(data)


def _ended(item: Begun | Heard) -> bool:
    return isinstance(item, Begun) and item.record is not None and item.record.state.terminal


def _cursor(request: web.Request) -> Cursor | None:
    text = request.headers.get("Last-Event-ID") or request.query.get("after")
    try:
        return Cursor.parse(text) if text else None
    except ValueError:
        raise Problem(Code.MALFORMED, "That is no event's id.") from None
