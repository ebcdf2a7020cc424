"""`/ws`: one socket, any number of watches, and one live session."""

from aiohttp import web

from services.contracts.auth import Scope
from services.contracts.errors import Code
from services.contracts.live import Start
from services.contracts.stream import PROTOCOL
from services.ingest.feed import Feed
from services.ingest.http.call import Call
from services.ingest.http.conversation import Conversation
from services.ingest.http.credentials import IN_PATH, check_origin, check_protocols
from services.ingest.http.route import Answer, Handler, Param, Route, claims, digest_of
from services.ingest.http.watches import Watches
from services.ingest.http.wire import CLOSED, Writer, websocket
from services.ingest.limits import RateLimits
from services.ingest.live import LiveDoor
from services.ingest.settings import Settings
from services.ingest.streams import Streams
from services.runtime.bus import Bus


class SocketRoutes:
    """The two addresses of the socket."""

    def __init__(
        self, streams: Streams, feed: Feed, door: LiveDoor, bus: Bus, limits: RateLimits, settings: Settings
    ) -> None:
        self._streams = streams
        self._door = door
        self._bus = bus
        self._feed = feed
        self._limits = limits
        self._settings = settings

    def routes(self) -> list[Route]:
        """Both, with what the reference says."""
        in_path = Param(IN_PATH, "your key, or better a ticket: addresses are written to logs", "path")
        return [
            self._route("/ws", self.socket),
            self._route("/ws/{api_key}", self.socket_by_path, in_path),
        ]

    def _route(self, path: str, handler: Handler, *params: Param) -> Route:
        return Route(
            "GET",
            path,
            handler,
            "Open a WebSocket to speak (scope `submit` as well), or to follow jobs (scope `read` as well); "
            "docs/live.md and docs/streams.md have its messages",
            scope=Scope.STREAM,
            socket=True,
            params=(
                *params,
                Param(
                    "Sec-WebSocket-Protocol",
                    f"`{PROTOCOL}`, and for browsers beside it `ticket.TICKET` or `key.KEY`",
                    "header",
                ),
            ),
            answers={101: Answer("A WebSocket from here on", media=())},
            errors=(
                *(Code.TICKET, Code.ORIGIN, Code.TOO_MANY_STREAMS, Code.NO_ROOM),
                *(Code.TAKEN, Code.SESSION_ENDED, Code.MALFORMED),
            ),
        )

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket, to its end."""
        check_origin(request, self._settings.stream_origins)
        check_protocols(request)
        who = claims(request)
        ws = websocket(request, PROTOCOL)
        async with self._streams.open(who, digest_of(request)) as stream:
            await ws.prepare(request)
            writer = Writer(ws, request.transport)
            call = Call(self._door, self._bus, who, writer.send, lambda encoding: Start(encoding=encoding), plain=True)
            watches = Watches(writer, who, self._feed, self._settings)
            talk = Conversation(ws, writer, who, watches, call, self._limits, self._settings.stream_idle)
            try:
                ending = await stream.run("socket", talk.serve(), talk.until_over(), talk.until_idle())
            finally:
                await call.leave(for_good=call.unaware and ws.close_code in CLOSED)
            if ending is not None:
                await talk.end(ending)
        return ws

    async def socket_by_path(self, request: web.Request) -> web.StreamResponse:
        """The same; the key or ticket was taken from the path."""
        return await self.socket(request)
