"""`/ws`: one socket, any number of watches. Live audio will come over the same socket."""

import asyncio
import contextlib
import json
import traceback
from contextlib import aclosing

from aiohttp import WSMsgType, web
from pydantic import ValidationError

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.stream import LIVE_TYPES, PROTOCOL, Cursor, Ping, Unwatch, Watch
from services.ingest import messages
from services.ingest.auth import require
from services.ingest.feed import Begun, Feed, TooSlow
from services.ingest.follow import Backlog
from services.ingest.http.credentials import IN_PATH, check_origin, check_protocols
from services.ingest.http.route import Answer, Handler, Param, Route, claims, digest_of
from services.ingest.limits import RateLimits
from services.ingest.problems import problem_of
from services.ingest.settings import Settings
from services.ingest.streams import Ending, Streams
from services.runtime.lifecycle import cancel
from services.runtime.logs import get_logger

HEARTBEAT = 20.0
"""Seconds between two pings; a client that leaves one unanswered for half as long is gone."""
LARGEST = 64 << 10
"""Bytes of the largest message that a client may send."""
STUCK = 10.0
"""Seconds in which a reader must have taken what was sent."""
FAREWELL = 1.0
"""Seconds for the last message, and again for the client to close its side."""
CALM = 1.0
"""Seconds for which a client that sends too much is not listened to."""


class SocketRoutes:
    """The two addresses of the socket."""

    def __init__(self, streams: Streams, feed: Feed, limits: RateLimits, settings: Settings) -> None:
        self._streams = streams
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
            "Open a WebSocket to follow jobs; docs/streams.md has its messages",
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
            errors=(Code.TICKET, Code.ORIGIN, Code.TOO_MANY_STREAMS, Code.NOT_YET, Code.MALFORMED),
        )

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket, to its end."""
        check_origin(request, self._settings.stream_origins)
        check_protocols(request)
        who = claims(request)
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT,
            compress=False,
            max_msg_size=LARGEST,
            protocols=(PROTOCOL,),
            timeout=FAREWELL,
            writer_limit=1,  # every message waits until the transport has room
        )
        if not ws.can_prepare(request):
            raise Problem(Code.MALFORMED, "This address speaks WebSocket.")
        async with self._streams.open(who, digest_of(request)) as stream:
            await ws.prepare(request)
            socket = _Socket(ws, request.transport, who, self._feed, self._limits, self._settings)
            ending = await stream.run("socket", socket.serve())
            if ending is not None:
                await socket.close(ending)
        return ws

    async def socket_by_path(self, request: web.Request) -> web.StreamResponse:
        """The same; the key or ticket was taken from the path."""
        return await self.socket(request)


class _Socket:
    """One socket: reads what the client asks, and has a task for each watch."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        who: Claims,
        feed: Feed,
        limits: RateLimits,
        settings: Settings,
    ) -> None:
        self._ws = ws
        self._transport = transport
        self._who = who
        self._feed = feed
        self._limits = limits
        self._backlog = Backlog(settings.stream_backlog)
        self._most = settings.stream_watches
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._log = get_logger()

    async def serve(self) -> None:
        """Until the client closes, or is gone."""
        try:
            async for message in self._ws:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._take(message.data)
        except ConnectionError:
            pass
        finally:
            await self._stop(*self._watches)

    async def close(self, ending: Ending) -> None:
        """Say why, and close."""
        code, reason = ending.value
        try:
            async with asyncio.timeout(FAREWELL):
                await self._send(messages.closing(ending))
            await self._ws.close(code=code, message=reason.encode())
        except (ConnectionError, TimeoutError):
            self._abort()

    async def _take(self, data: str | bytes) -> None:
        job: str | None = None
        try:
            await self._limits.request(self._who.tenant)
            asked = _asked(data)
            if isinstance(asked, Ping):
                await self._send(messages.pong())
                return
            job = asked.job_id
            if isinstance(asked, Watch):
                await self._begin(job, asked.after)
            else:
                await self._stop(job)
                await self._send(messages.unwatched(job))
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one message is told, and the socket goes on
            await self._send(self._trouble(error, job))
            if isinstance(error, Problem) and error.code == Code.RATE_LIMIT:
                await asyncio.sleep(CALM)

    async def _begin(self, job: str, after: str | None) -> None:
        require(self._who, Scope.READ)
        try:
            cursor = Cursor.parse(after) if after is not None else None
        except ValueError:
            raise Problem(Code.MALFORMED, "`after` is the `cursor` of an event.") from None
        await self._stop(job)
        if len(self._watches) >= self._most:
            raise Problem(Code.TOO_MANY_STREAMS, f"At most {self._most} watches on a socket.")
        self._watches[job] = asyncio.create_task(self._watch(job, cursor), name="watch")

    async def _watch(self, job: str, after: Cursor | None) -> None:
        try:
            async with aclosing(self._feed.follow(self._who.tenant, job, after, self._backlog)) as items:
                async for item in items:
                    await self._send(messages.watching(job, item) if isinstance(item, Begun) else item.text)
        except TooSlow as slow:
            await self._last(messages.resync(job, slow))
        except ConnectionError:
            pass  # whoever reads from the socket learns of it too
        except Exception as error:  # noqa: BLE001 - a fault in one watch ends that watch
            await self._last(self._trouble(error, job))
        finally:
            if self._watches.get(job) is asyncio.current_task():
                del self._watches[job]

    def _trouble(self, error: Exception, job: str | None) -> str:
        if problem_of(error) is None:
            # Frames without the message: a message may quote what the client sent.
            frames = "".join(traceback.format_tb(error.__traceback__))
            self._log.error("a socket met a fault", error=type(error).__name__, exception=frames)
        return messages.error(error, job)

    async def _last(self, text: str) -> None:
        with contextlib.suppress(ConnectionError):
            await self._send(text)

    async def _stop(self, *jobs: str) -> None:
        tasks = [task for job in jobs if (task := self._watches.pop(job, None))]
        await cancel(*tasks)

    async def _send(self, text: str) -> None:
        """Send when it is its turn; a reader that takes nothing is cut off. Raises ConnectionError."""
        async with self._sending:
            try:
                async with asyncio.timeout(STUCK):
                    await self._ws.send_str(text)
            except TimeoutError:
                self._abort()
                raise ConnectionResetError from None

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


_Asked = Watch | Unwatch | Ping
_MESSAGES: dict[str, type[_Asked]] = {"watch": Watch, "unwatch": Unwatch, "ping": Ping}


def _asked(data: str | bytes) -> _Asked:
    """A client's message. Raises `Problem` NOT_YET, MALFORMED."""
    if isinstance(data, bytes):
        raise Problem(Code.NOT_YET, "Audio over the socket.")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED, "A message is a JSON object.") from None
    kind = str(document.get("type")) if isinstance(document, dict) else ""
    if kind in LIVE_TYPES:
        raise Problem(Code.NOT_YET, "Audio over the socket.")
    if kind not in _MESSAGES:
        raise Problem(Code.MALFORMED, f"The `type` of a message is {', '.join(_MESSAGES)}.")
    try:
        return _MESSAGES[kind].model_validate(document)
    except ValidationError:
        raise Problem(Code.MALFORMED, f"`{kind}` takes {', '.join(_MESSAGES[kind].model_fields)}.") from None
