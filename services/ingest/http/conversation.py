"""One socket of `/ws`: what its client says is taken in turn; its watches and its live session speak for themselves."""

import asyncio

from aiohttp import WSMsgType, web

from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.live import CloseStream, Finalize, KeepAlive, LiveClose, Resume, Start
from services.contracts.stream import Ping, Unwatch, Watch
from services.ingest import messages
from services.ingest.http.call import Call
from services.ingest.http.frames import Spoken, asked
from services.ingest.http.watches import Watches
from services.ingest.http.wire import FAREWELL, Writer, close_of, trouble
from services.ingest.limits import RateLimits
from services.ingest.streams import Ending

CALM = 1.0
"""Seconds for which a client that sends too much is not listened to."""
CLOSING = {Code.NO_ROOM, Code.TAKEN}
"""Errors in answer to a text message after which the socket has nothing more to do."""


class Conversation:
    """Serves one socket. `idle`: seconds for which one without a watch or a session may be silent."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        writer: Writer,
        who: Claims,
        watches: Watches,
        call: Call,
        limits: RateLimits,
        idle: float,
    ) -> None:
        self._ws = ws
        self._writer = writer
        self._who = who
        self._watches = watches
        self._call = call
        self._limits = limits
        self._idle = idle
        self._heard_at = asyncio.get_running_loop().time()
        self._told_of_end = False

    async def serve(self) -> None:
        """Until the client closes, or is gone."""
        try:
            async for message in self._ws:
                self._heard_at = asyncio.get_running_loop().time()
                if message.type == WSMsgType.TEXT:
                    await self._take(message.data)
                elif message.type == WSMsgType.BINARY and not await self._hear(message.data):
                    return
        except ConnectionError:
            pass
        finally:
            await self._watches.stop()

    async def until_over(self) -> None:
        """Close the socket when its live session has ended."""
        try:
            code = await asyncio.shield(self._call.over)
            await self._writer.close(code, "the session has ended")
        except Exception as error:  # noqa: BLE001 - a fault in the session ends the socket, and it can be resumed
            await self._writer.last(trouble(error))
            await self._writer.close(*close_of(error))

    async def until_idle(self) -> None:
        """Close a socket on which nothing happens, and nothing will."""
        loop = asyncio.get_running_loop()
        while True:
            busy = self._watches or self._call.open
            left = self._idle if busy else self._heard_at + self._idle - loop.time()
            if left <= 0:
                await self._writer.close(LiveClose.IDLE, "nothing came")
                return
            await asyncio.sleep(left)

    async def end(self, ending: Ending) -> None:
        """Say why the service ends this socket, and close it."""
        code, reason = ending.value
        try:
            await self._writer.send(messages.closing(ending), within=FAREWELL)
        except ConnectionError:
            return
        await self._writer.close(code, reason)

    async def _hear(self, data: bytes) -> bool:
        """Take audio; says whether the socket goes on."""
        try:
            await self._call.audio(data)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - audio that cannot be taken is never passed over in silence
            if isinstance(error, Problem) and error.code == Code.SESSION_ENDED:
                # Its last words and its summary are on their way; behind them there is nothing to be said.
                if not self._told_of_end:
                    self._told_of_end = True
                    await self._call.mention(trouble(error))
                return True
            await self._writer.last(trouble(error))
            await self._writer.close(*close_of(error))
            return False
        return True

    async def _take(self, data: str) -> None:
        job: str | None = None
        resuming = False
        try:
            message = await self._parsed(data)
            job = message.job_id if isinstance(message, Watch | Unwatch) else None
            resuming = isinstance(message, Resume)
            # A session that is open keeps its own measure.
            if not (self._call.open and isinstance(message, Finalize | KeepAlive | CloseStream)):
                await self._limits.request(self._who.tenant)
            await self._do(message)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in one message is told, and the socket goes on
            await self._writer.send(trouble(error, job))
            if isinstance(error, Problem) and error.code == Code.RATE_LIMIT:
                await asyncio.sleep(CALM)
            # Whoever resumes has nothing else in mind, and has to know whether to come again.
            in_vain = resuming and not self._call.heard and not self._watches
            if in_vain or (isinstance(error, Problem) and error.code in CLOSING):
                await self._writer.close(*close_of(error))

    async def _parsed(self, data: str) -> Watch | Unwatch | Ping | Spoken:
        try:
            return asked(data)
        except Problem:
            await self._limits.request(self._who.tenant)  # what is no message counts all the same
            raise

    async def _do(self, message: Watch | Unwatch | Ping | Spoken) -> None:
        match message:
            case Watch():
                await self._watches.begin(message)
            case Unwatch():
                await self._watches.end(message)
            case Ping():
                await self._writer.send(messages.pong())
            case Start():
                await self._call.start(message)
            case Resume():
                await self._call.resume(message)
            case Finalize():
                await self._call.finalize()
            case KeepAlive():
                await self._call.keep_alive()
            case CloseStream():
                await self._call.close()
