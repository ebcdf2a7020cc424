"""Deepgram's listening endpoints: a program written for them changes one address, live or with a recording."""

import asyncio
import hashlib
import json
import time
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.jobs import State
from services.contracts.live import Encoding, LiveClose, Start
from services.ingest.http import deepgram_form as form
from services.ingest.http.answers import asked_wait, failure, gone, unfinished
from services.ingest.http.body import Fields, Submissions
from services.ingest.http.call import Call
from services.ingest.http.credentials import TOKEN, check_origin
from services.ingest.http.deepgram_answers import Translator, prerecorded, schema_error
from services.ingest.http.reference import FAILURES, SUBMIT_ERRORS
from services.ingest.http.route import Answer, Body, Param, Route, claims, digest_of
from services.ingest.http.wire import Writer, close_of, trouble, websocket
from services.ingest.jobs import Jobs
from services.ingest.live import LiveDoor
from services.ingest.relay import Relay
from services.ingest.settings import Settings
from services.ingest.streams import Streams
from services.runtime.bus import Bus

SILENT = 1011
"""Deepgram's close code for a stream on which nothing came."""


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
                "Open a WebSocket to speak (scope `submit` as well), as Deepgram's API does; docs/deepgram.md has its "
                "parameters and messages",
                scope=Scope.STREAM,
                socket=True,
                free_query=True,
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
                free_query=True,
                answers={200: Answer("The transcript in Deepgram's shape")},
                errors=(*SUBMIT_ERRORS, *FAILURES, Code.NOT_FINISHED),
            ),
        ]

    async def recording(self, request: web.Request) -> web.StreamResponse:
        """The words of the body."""
        aliases = self._settings.model_aliases

        def options(fields: Fields) -> dict[str, str]:
            return form.options(fields, aliases)

        with self._submissions.waited_for(request):
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
        ws = websocket(request, TOKEN)
        async with self._streams.open(who, digest_of(request)) as stream:
            await ws.prepare(request)
            listener = _Listener(ws, request, who, self._door, self._bus, self._settings)
            try:
                ending = await stream.run(
                    "deepgram", listener.serve(), listener.until_over(), listener.until_idle(self._settings.stream_idle)
                )
            finally:
                await listener.call.leave(for_good=True)  # its protocol knows of no way back
            if ending is not None:
                await listener.close(*ending.value)
        return ws


class _Listener:
    """One stream: Deepgram's messages on this side, a live session on the other."""

    def __init__(
        self, ws: web.WebSocketResponse, request: web.Request, who: Claims, door: LiveDoor, bus: Bus, settings: Settings
    ) -> None:
        self._ws = ws
        self._writer = Writer(ws, request.transport)
        self._query = request.query
        self._aliases = settings.model_aliases
        self._translator = Translator(
            events=form.wants_events(request.query),
            utterance_ends="utterance_end_ms" in request.query,
            now=time.time(),
        )
        self._heard = hashlib.sha256()
        self._heard_at = asyncio.get_running_loop().time()
        self.call = Call(door, bus, who, self._pass_on, self._start, plain=False)

    async def serve(self) -> None:
        """Until the client closes, or is gone."""
        try:
            if "encoding" in self._query:
                await self.call.start(self._start(None))
            async for message in self._ws:
                self._heard_at = asyncio.get_running_loop().time()
                await self._take(message)
        except ConnectionError:
            pass
        except Exception as error:  # noqa: BLE001 - a fault ends the stream, and is told
            await self._fail(error)

    async def _take(self, message: WSMessage) -> None:
        """Take what the client sends; what comes after the session's end is answered by that, which is on its way."""
        try:
            if message.type == WSMsgType.BINARY and message.data:
                self._heard.update(message.data)
                await self.call.audio(message.data)
            elif message.type == WSMsgType.BINARY:
                await self._ask("CloseStream")  # Deepgram's older way to be done
            elif message.type == WSMsgType.TEXT:
                await self._ask(_type_of(message.data))
        except Problem as problem:
            if problem.code != Code.SESSION_ENDED:
                raise

    async def until_over(self) -> None:
        """Close the socket when its session has ended."""
        try:
            how = await asyncio.shield(self.call.over)
            if how is LiveClose.IDLE:
                await self.close(SILENT, "nothing came")
            else:
                await self.close(how)
        except Exception as error:  # noqa: BLE001 - told to the client
            await self._fail(error)

    async def until_idle(self, idle: float) -> None:
        """Close a socket on which no audio comes; a session that has begun is ended by its engine."""
        loop = asyncio.get_running_loop()
        while True:
            left = idle if self.call.open else self._heard_at + idle - loop.time()
            if left <= 0:
                await self.close(SILENT, "nothing came")
                return
            await asyncio.sleep(left)

    async def close(self, code: int, reason: str = "") -> None:
        """Close the socket."""
        await self._writer.close(code, reason)

    def _start(self, encoding: Encoding | None) -> Start:
        return form.start(self._query.items(), self._aliases, encoding)

    async def _ask(self, kind: str) -> None:
        match kind:
            case "KeepAlive":
                if self.call.open:
                    await self.call.keep_alive()
            case "Finalize":
                if self.call.heard:
                    await self.call.finalize()
            case "CloseStream":
                if self.call.heard:
                    await self.call.close()
                else:
                    await self._send(self._metadata(0.0))
                    await self.close(LiveClose.DONE)
            case "Configure":
                await self._send(self._translator.not_configured())
            case _:
                await self._send(schema_error())

    async def _fail(self, error: Exception) -> None:
        await self._pass_on(trouble(error), last=True)
        await self.close(*close_of(error))

    async def _pass_on(self, text: str, *, last: bool = False) -> None:
        message = json.loads(text)
        if message["type"] == "summary":
            if problem := message.get("error"):
                await self._send(self._translator.refusal(problem))
            await self._send(self._metadata(message["duration"]))
        elif (said := self._translator.of(message)) is not None:
            if last:
                await self._writer.last(json.dumps(said))
            else:
                await self._send(said)

    def _metadata(self, duration: float) -> dict[str, Any]:
        return self._translator.metadata(duration, self._heard.hexdigest())

    async def _send(self, document: dict[str, Any]) -> None:
        await self._writer.send(json.dumps(document, ensure_ascii=False))


def _type_of(data: str) -> str:
    """A message's `type`; empty for what is no message."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("type")) if isinstance(document, dict) else ""
