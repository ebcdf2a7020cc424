"""`/ws`: one socket, any number of watches, and one live session."""

import asyncio
import contextlib
import json
import traceback
from contextlib import aclosing

from aiohttp import WSMsgType, web
from pydantic import ValidationError

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.live import CloseStream, Finalize, KeepAlive, LiveClose, Resume, Start
from services.contracts.stream import PROTOCOL, Cursor, Ping, Unwatch, Watch
from services.ingest import messages
from services.ingest.auth import require
from services.ingest.feed import Begun, Feed, TooSlow
from services.ingest.follow import Backlog
from services.ingest.http.call import Call
from services.ingest.http.credentials import IN_PATH, check_origin, check_protocols
from services.ingest.http.route import Answer, Handler, Param, Route, claims, digest_of
from services.ingest.limits import RateLimits
from services.ingest.live import LiveDoor, Taken
from services.ingest.problems import problem_of
from services.ingest.settings import Settings
from services.ingest.streams import Ending, Streams
from services.runtime.bus import Bus
from services.runtime.lifecycle import cancel
from services.runtime.logs import get_logger

HEARTBEAT = 20.0
"""Seconds between two pings; a client that leaves one unanswered for half as long is gone."""
LARGEST = 256 << 10
"""Bytes of the largest message that a client may send."""
STUCK = 10.0
"""Seconds in which a reader must have taken what was sent."""
FAREWELL = 1.0
"""Seconds for the last message, and again for the client to close its side."""
CALM = 1.0
"""Seconds for which a client that sends too much is not listened to."""


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
            "Open a WebSocket to speak, or to follow jobs; docs/live.md and docs/streams.md have its messages",
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
            errors=(Code.TICKET, Code.ORIGIN, Code.TOO_MANY_STREAMS, Code.NO_ROOM, Code.TAKEN, Code.MALFORMED),
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
            call = Call(self._door, self._bus, who, socket.send)
            try:
                ending = await stream.run("socket", socket.serve(call), socket.until_over(call))
            finally:
                await call.leave()
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

    async def serve(self, call: Call) -> None:
        """Until the client closes, or is gone."""
        try:
            async for message in self._ws:
                if message.type == WSMsgType.TEXT:
                    await self._take(message.data, call)
                elif message.type == WSMsgType.BINARY and not await self._hear(message.data, call):
                    return
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

    async def until_over(self, call: Call) -> None:
        """Close the socket when its live session has ended."""
        try:
            code = await asyncio.shield(call.over)
            await self._ws.close(code=code, message=b"the session has ended")
        except Exception as error:  # noqa: BLE001 - a fault in the session ends the socket, and it can be resumed
            await self._last(self._trouble(error, None))
            await self._ws.close(code=LiveClose.BROKEN, message=b"resume the session")

    async def _hear(self, data: bytes, call: Call) -> bool:
        """Take audio; says whether the socket goes on."""
        try:
            await call.audio(data)
        except ConnectionError:
            raise
        except Taken:
            await self._last(messages.error(Problem(Code.TAKEN)))
            await self._ws.close(code=LiveClose.TAKEN, message=b"another socket goes on with this session")
            return False
        except Exception as error:  # noqa: BLE001 - audio that cannot be taken is never passed over in silence
            await self._last(self._trouble(error, None))
            problem = problem_of(error)
            if problem is not None and problem.code == Code.NO_ROOM:
                await self._full(problem)
            else:
                await self._ws.close(code=LiveClose.BROKEN, message=b"see the error")
            return False
        return True

    async def _take(self, data: str, call: Call) -> None:
        job: str | None = None
        try:
            await self._limits.request(self._who.tenant)
            asked = _asked(data)
            if isinstance(asked, Ping):
                await self._send(messages.pong())
                return
            if not isinstance(asked, Watch | Unwatch):
                await _live(asked, call)
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
            if isinstance(error, Problem) and error.code == Code.NO_ROOM:
                await self._full(error)

    async def _full(self, problem: Problem) -> None:
        await self._ws.close(code=LiveClose.FULL, message=f"come back in {problem.retry_after or 0:.0f} s".encode())

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

    async def send(self, text: str) -> None:
        """For the live session: see `_send`."""
        await self._send(text)

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


_Live = Start | Resume | Finalize | KeepAlive | CloseStream
_Asked = Watch | Unwatch | Ping | _Live
_MESSAGES: dict[str, type[_Asked]] = {
    "watch": Watch,
    "unwatch": Unwatch,
    "ping": Ping,
    "start": Start,
    "resume": Resume,
    "finalize": Finalize,
    "keepalive": KeepAlive,
    "close": CloseStream,
}


async def _live(asked: _Live, call: Call) -> None:
    match asked:
        case Start():
            await call.start(asked)
        case Resume():
            await call.resume(asked)
        case Finalize():
            await call.finalize()
        case KeepAlive():
            await call.keep_alive()
        case CloseStream():
            await call.close()


def _asked(data: str) -> _Asked:
    """A client's message. Raises `Problem` MALFORMED."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED, "A message is a JSON object.") from None
    kind = str(document.get("type")) if isinstance(document, dict) else ""
    if kind not in _MESSAGES:
        raise Problem(Code.MALFORMED, f"The `type` of a message is {', '.join(_MESSAGES)}.")
    try:
        return _MESSAGES[kind].model_validate(document)
    except ValidationError:
        raise Problem(Code.MALFORMED, f"`{kind}` takes {', '.join(_MESSAGES[kind].model_fields)}.") from None
