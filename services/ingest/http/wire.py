"""A WebSocket as the doors of live speech and of streamed results serve it: its limits, one writer, its last words."""

import asyncio
import traceback
from contextlib import suppress

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.contracts.live import LiveClose
from services.ingest import messages
from services.ingest.problems import problem_of
from services.runtime.logs import get_logger

HEARTBEAT = 20.0
"""Seconds between two pings; a client that leaves one unanswered for half as long is gone."""
LARGEST = 256 << 10
"""Bytes of the largest message that a client may send."""
STUCK = 10.0
"""Seconds in which a reader must have taken what was sent."""
FAREWELL = 1.0
"""Seconds for the last message, and again for the client to close its side."""

CLOSED = (1000, 1001, 1005)
"""Codes with which a client closes that is done: by itself, by leaving the page, without a reason."""


def websocket(request: web.Request, protocol: str) -> web.WebSocketResponse:
    """A socket that is not open yet. Raises `Problem` MALFORMED for a request that asks for none."""
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT,
        compress=False,
        max_msg_size=LARGEST,
        protocols=(protocol,),
        timeout=FAREWELL,
        writer_limit=1,  # every message waits until the transport has room
    )
    if not ws.can_prepare(request):
        raise Problem(Code.MALFORMED, "This address speaks WebSocket.")
    return ws


class Writer:
    """The writing side of one socket: messages go out one at a time, and a reader that takes nothing is cut off."""

    def __init__(self, ws: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._ws = ws
        self._transport = transport
        self._turn = asyncio.Lock()

    async def send(self, text: str, *, within: float = STUCK) -> None:
        """Send when it is its turn. Raises ConnectionError, also when the reader has not taken it in time."""
        try:
            async with asyncio.timeout(within), self._turn:
                await self._ws.send_str(text)
        except TimeoutError:
            self.abort()
            raise ConnectionResetError from None

    async def last(self, text: str) -> None:
        """Send what nobody may be there any more to hear."""
        with suppress(ConnectionError):
            await self.send(text)

    async def close(self, code: int, reason: str = "") -> None:
        """Close; who does not even take that is cut off."""
        try:
            async with asyncio.timeout(STUCK):
                await self._ws.close(code=code, message=reason.encode())
        except (ConnectionError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()


def trouble(error: Exception, job: str | None = None) -> str:
    """The message that tells of an error; a fault of ours is logged as well."""
    if problem_of(error) is None:
        # Frames without the message: a message may quote what the client sent.
        frames = "".join(traceback.format_tb(error.__traceback__))
        get_logger().error("a socket met a fault", error=type(error).__name__, exception=frames)
    return messages.error(error, job)


def close_of(error: Exception) -> tuple[LiveClose, str]:
    """Code and reason with which a socket is closed whose live session came to nothing by this."""
    problem = problem_of(error)
    if problem is None:
        return LiveClose.BROKEN, "resume the session"
    match problem.code:
        case Code.NO_ROOM:
            return LiveClose.FULL, f"come back in {problem.retry_after or 0:.0f} s"
        case Code.TAKEN:
            return LiveClose.TAKEN, "another socket goes on with this session"
        case _ if problem.kind.status < 500 and problem.code != Code.RATE_LIMIT:
            return LiveClose.REFUSED, "see the error"
        case _:
            return LiveClose.BROKEN, "resume the session"
