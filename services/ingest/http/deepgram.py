"""Deepgram's listening endpoints: a program written for them changes one address, live or with a recording."""

import asyncio
import contextlib
import json
import time
from typing import Any

from aiohttp import WSMsgType, web

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.jobs import State
from services.contracts.live import LiveClose
from services.ingest import messages
from services.ingest.http import deepgram_form as form
from services.ingest.http.answers import asked_wait, failure, gone, unfinished
from services.ingest.http.body import Fields, Submissions
from services.ingest.http.call import Call
from services.ingest.http.credentials import TOKEN, check_origin
from services.ingest.http.deepgram_answers import Translator, prerecorded
from services.ingest.http.reference import FAILURES, SUBMIT_ERRORS
from services.ingest.http.route import Answer, Body, Param, Route, claims, digest_of
from services.ingest.http.socket import FAREWELL, HEARTBEAT, LARGEST, STUCK
from services.ingest.jobs import Jobs
from services.ingest.live import LiveDoor, Taken, encoding_of
from services.ingest.problems import problem_of
from services.ingest.relay import Relay
from services.ingest.settings import Settings
from services.ingest.streams import Streams
from services.runtime.bus import Bus
from services.runtime.logs import get_logger

REFUSED_CLOSE = 1008
"""Close code of a stream whose parameters or key cannot be."""


class DeepgramRoutes:
    """`/v1/listen`: a socket, and a recording."""

    def __init__(
        self,
        submissions: Submissions,
        jobs: Jobs,
        relay: Relay,
        streams: Streams,
        door: LiveDoor,
        bus: Bus,
        settings: Settings,
    ) -> None:
        self._submissions = submissions
        self._jobs = jobs
        self._relay = relay
        self._streams = streams
        self._door = door
        self._bus = bus
        self._settings = settings

    def routes(self) -> list[Route]:
        """Both, with what the reference says."""
        return [
            Route(
                "GET",
                "/v1/listen",
                self.live,
                "Open a WebSocket to speak, as Deepgram's API does; docs/deepgram.md has its parameters and messages",
                scope=Scope.STREAM,
                socket=True,
                params=(Param("Sec-WebSocket-Protocol", "of browsers: `token`, and beside it the key", "header"),),
                answers={101: Answer("A WebSocket from here on", media=())},
                errors=(Code.ORIGIN, Code.TOO_MANY_STREAMS, Code.MALFORMED, Code.OPTION_REFUSED, Code.OPTION_UNKNOWN),
            ),
            Route(
                "POST",
                "/v1/listen",
                self.recording,
                "Transcribe a recording, as Deepgram's API does",
                scope=Scope.SUBMIT,
                body=Body(recording=True),
                answers={200: Answer("The transcript in Deepgram's shape")},
                errors=(*SUBMIT_ERRORS, *FAILURES, Code.NOT_FINISHED),
            ),
        ]

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """The words of the body."""
        aliases = self._settings.model_aliases

        def options(fields: Fields) -> dict[str, str]:
            return form.options(fields, aliases)

        admitted = await self._submissions.admit_recording(request, options)
        wait = asked_wait(request, self._settings.transcribe_wait)
        record = await self._relay.settled(admitted.record, wait, lambda: gone(request))
        if not record.state.terminal:
            raise unfinished(record)
        if record.state == State.FAILED:
            raise failure(record)
        transcript = await self._jobs.transcript_of(record)
        utterances = request.query.get("utterances", "false").lower() == "true"
        body = await asyncio.to_thread(prerecorded, transcript, record, utterances=utterances)
        return web.Response(body=body, content_type="application/json")

    async def live(self, request: web.Request) -> web.StreamResponse:
        """Serve one stream, to its end."""
        check_origin(request, self._settings.stream_origins)
        who = claims(request)
        form.known(request.query.items())
        ws = web.WebSocketResponse(
            heartbeat=HEARTBEAT,
            compress=False,
            max_msg_size=LARGEST,
            protocols=(TOKEN,),
            timeout=FAREWELL,
            writer_limit=1,
        )
        if not ws.can_prepare(request):
            raise Problem(Code.MALFORMED, "This address speaks WebSocket, or takes a recording by POST.")
        async with self._streams.open(who, digest_of(request)) as stream:
            await ws.prepare(request)
            listener = _Listener(ws, request, who, self._door, self._bus, self._settings)
            try:
                ending = await stream.run("deepgram", listener.serve(), listener.until_over())
            finally:
                await listener.call.leave()
            if ending is not None:
                code, reason = ending.value
                with contextlib.suppress(ConnectionError, TimeoutError):
                    await ws.close(code=code, message=reason.encode())
        return ws


class _Listener:
    """One stream: Deepgram's messages on this side, a live session on the other."""

    def __init__(
        self, ws: web.WebSocketResponse, request: web.Request, who: Claims, door: LiveDoor, bus: Bus, settings: Settings
    ) -> None:
        self._ws = ws
        self._transport = request.transport
        self._query = request.query
        self._aliases = settings.model_aliases
        self._sending = asyncio.Lock()
        self._translator = Translator(
            events=form.wants_events(request.query),
            utterance_ends="utterance_end_ms" in request.query,
            now=time.time(),
        )
        self._open = False
        self.call = Call(door, bus, who, self._pass_on)

    async def serve(self) -> None:
        """Until the client closes, or is gone."""
        try:
            if "encoding" in self._query:
                await self._begin(None)
            async for message in self._ws:
                if message.type == WSMsgType.BINARY and message.data:
                    if not self._open:
                        await self._begin(message.data)
                    await self.call.audio(message.data)
                elif message.type == WSMsgType.BINARY:
                    await self._ask("CloseStream")  # Deepgram's older way to be done
                elif message.type == WSMsgType.TEXT:
                    await self._ask(_type_of(message.data))
        except ConnectionError:
            pass
        except Exception as error:  # noqa: BLE001 - a fault ends the stream, and is told
            await self._fail(error)

    async def until_over(self) -> None:
        """Close the socket when its session has ended."""
        try:
            await self.call.over
            await self._ws.close(code=LiveClose.DONE)
        except Exception as error:  # noqa: BLE001 - told to the client
            await self._fail(error)

    async def _begin(self, first: bytes | None) -> None:
        encoding = encoding_of(first) if first is not None else None
        await self.call.start(form.start(self._query.items(), self._aliases, encoding))
        self._open = True

    async def _ask(self, kind: str) -> None:
        match kind:
            case "KeepAlive" if self._open:
                await self.call.keep_alive()
            case "Finalize" if self._open:
                self._translator.finalizing()
                await self.call.finalize()
            case "CloseStream" if self._open:
                await self.call.close()
            case "CloseStream":
                await self._send(self._translator.metadata(0.0))
                await self._ws.close(code=LiveClose.DONE)
            case "KeepAlive" | "Finalize":
                pass
            case _:
                raise Problem(Code.MALFORMED, "The `type` of a message is KeepAlive, Finalize or CloseStream.")

    async def _fail(self, error: Exception) -> None:
        problem = problem_of(error)
        if isinstance(error, Taken):
            problem = Problem(Code.TAKEN)
        if problem is None:
            get_logger().error("a stream met a fault", error=type(error).__name__)
        code = int(LiveClose.BROKEN)
        reason = b"see the error"
        if problem is not None and problem.code == Code.NO_ROOM:
            code, reason = int(LiveClose.FULL), f"come back in {problem.retry_after or 0:.0f} s".encode()
        elif problem is not None and problem.kind.status < 500:
            code = REFUSED_CLOSE
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._pass_on(messages.error(problem or error))
            await self._ws.close(code=code, message=reason)

    async def _pass_on(self, text: str) -> None:
        said = self._translator.of(json.loads(text))
        if said is not None:
            await self._send(said)

    async def _send(self, document: dict[str, Any]) -> None:
        """Send when it is its turn; a reader that takes nothing is cut off. Raises ConnectionError."""
        async with self._sending:
            try:
                async with asyncio.timeout(STUCK):
                    await self._ws.send_str(json.dumps(document, ensure_ascii=False))
            except TimeoutError:
                if self._transport is not None:
                    self._transport.abort()
                raise ConnectionResetError from None


def _type_of(data: str) -> str:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED, "A message is a JSON object.") from None
    return str(document.get("type")) if isinstance(document, dict) else ""
