"""`desifre live`: speak, and read along in a terminal."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from services.cli.api import Api, Refused, Unreachable
from services.cli.commands.client import HERE, Key, Url, run_with
from services.cli.sound import PIECE, RATE, File, Microphone, NoSound
from services.contracts.errors import Code
from services.contracts.live import RESUME_WITHIN

AWAY = 2 * RESUME_WITHIN
"""Seconds for which a server that is away is waited for: about as much of what is said is kept here. A session waits
for half of them; then another one takes what is kept."""
PASSING = (Code.UNAVAILABLE, Code.RATE_LIMIT)
"""Errors behind which the same is asked again."""
BUSY = (429, 503)
"""The same, as the answer to who opens a socket."""
KEPT = 4 << 20
"""Bytes of sound that wait here until they are safe; what reads a file waits for them."""
CLOSE = json.dumps({"type": "close"})


def register(root: typer.Typer) -> None:
    """Add the command to the command line."""
    root.command(help="Speak, or play a recording, and read the words as they are heard.")(live)


def live(
    recording: Annotated[
        Path | None, typer.Argument(help="A recording, sent as fast as it was spoken.", exists=True, dir_okay=False)
    ] = None,
    mic: Annotated[bool, typer.Option("--mic", help="What is said here, until Ctrl-C.")] = False,
    fast: Annotated[
        bool, typer.Option("--fast/--pace", help="Send the recording as fast as it is taken, or as it was spoken.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="base, tiny.en, …; the server's default if not given.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1 code; detected if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: every message, one to a line.")] = False,
    url: Url = HERE,
    key: Key = "",
) -> None:
    if mic == (recording is not None):
        raise typer.BadParameter("either a recording or --mic")
    start = {name: value for name, value in {"model": model, "language": language}.items() if value}

    try:
        sound = Microphone() if recording is None else File(recording, fast=fast)
    except NoSound as error:
        typer.echo(f"desifre: {error}", err=True)
        raise typer.Exit(2) from None

    async def work(api: Api) -> int:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def enough() -> None:
            stop.set()  # the last words and the summary are still waited for
            loop.remove_signal_handler(signal.SIGINT)  # the second time there is no waiting

        loop.add_signal_handler(signal.SIGINT, enough)
        try:
            return await _Conversation(api, sound.pieces(stop), _Screen(as_json)).hold(start)
        except NoSound as error:
            typer.echo(f"desifre: {error}", err=True)
            return 2

    run_with(work, url, key)


class _Screen:
    """Finals on lines of their own; at a terminal the words that may still change below them."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._moving = sys.stdout.isatty() and not as_json
        self._line = ""

    def show(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if self._as_json:
            typer.echo(json.dumps(message, ensure_ascii=False))
        elif kind == "final":
            self._line += message["text"]
            self._draw("")
            if message["speech_final"]:
                self.end_line()
        elif kind == "interim" and self._moving:
            self._draw(message["text"])
        elif kind == "error":
            typer.echo(f"desifre: {message['code']}: {message['title']}. {message.get('detail') or ''}", err=True)
        elif kind == "summary" and (error := message.get("error")):
            self.end_line()
            typer.echo(f"desifre: {error['code']}: {error['title']}. {error.get('detail') or ''}", err=True)
        elif kind == "lag" and self._moving:
            typer.echo(f"desifre: {message['seconds']:.1f} s behind", err=True)

    def end_line(self) -> None:
        """What is on the line stays."""
        if self._line.strip() and not self._as_json:
            typer.echo(("\r\x1b[2K" if self._moving else "") + self._line.strip())
        self._line = ""

    def _draw(self, moving: str) -> None:
        if self._moving:
            width = 2000
            typer.echo(f"\r\x1b[2K{self._line.strip()}\x1b[2m{moving}\x1b[0m"[-width:], nl=False)


class _Conversation:
    """A session; a broken connection is taken up again with what was not yet safe, by another session where it must."""

    def __init__(self, api: Api, sound: AsyncIterator[bytes], screen: _Screen) -> None:
        self._api = api
        self._sound = sound
        self._screen = screen
        self._kept = bytearray()
        self._kept_from = 0
        self._ended = False
        self._session: str | None = None
        self._cursor: str | None = None
        self._begun = False
        """Whether there was a session: from then on there is sound to be saved, and a server is waited for."""
        self._more = asyncio.Event()
        self._fewer = asyncio.Event()
        self._until = 0.0
        self._pause = 0.0

    async def hold(self, start: dict[str, str]) -> int:
        """To its end: 0 when everything became a transcript."""
        reading = asyncio.create_task(self._read(), name="sound")
        loop = asyncio.get_running_loop()
        self._until = loop.time() + AWAY
        try:
            while True:
                try:
                    code = await self._try(start, reading)
                except (Unreachable, ConnectionError):
                    if not self._begun:
                        raise
                    code = None  # it may be started again at this very moment
                except Refused as no:
                    if not self._begun or no.status not in BUSY:
                        raise
                    code = None
                if code is not None:
                    return code
                if loop.time() > self._until:
                    typer.echo(f"desifre: no server for {AWAY:.0f} s; what was not taken is lost", err=True)
                    return 4
                await asyncio.sleep(self._pause)
                self._pause = min(1.0, self._pause + 0.25)
        finally:
            self._screen.end_line()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _try(self, start: dict[str, str], reading: asyncio.Task[None]) -> int | None:
        async with self._api.socket() as ws:
            first: dict[str, str | None] = {"type": "start", **start}
            if self._session is not None:
                first = {"type": "resume", "session_id": self._session, "after": self._cursor}
            await ws.send_str(json.dumps({name: value for name, value in first.items() if value}))
            return await self._converse(ws, reading)

    def _over(self, summary: dict[str, Any]) -> int | None:
        """The session has ended; None where another one is to take what is left."""
        error = (summary.get("error") or {}).get("code")
        self._forget(round(summary["duration"] * RATE) * 2)
        left = len(self._kept) > PIECE
        if summary["state"] != "completed" or error not in (None, Code.TOO_LONG) or (self._ended and not left):
            return 0 if summary["state"] == "completed" and error is None else 1
        typer.echo("desifre: the session is over; what it did not take goes on in another one", err=True)
        self._session = self._cursor = None
        self._kept_from = 0
        return None

    async def _read(self) -> None:
        try:
            async with aclosing(self._sound) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    self._kept += piece
                    self._more.set()
                    while len(self._kept) > KEPT:
                        self._fewer.clear()
                        await self._fewer.wait()
        finally:
            self._ended = True
            self._more.set()

    async def _converse(self, ws: aiohttp.ClientWebSocketResponse, reading: asyncio.Task[None]) -> int | None:
        sending: asyncio.Task[None] | None = None
        try:
            async for message in ws:
                if message.type is aiohttp.WSMsgType.ERROR:
                    break  # the connection has died, or what came over it is none of the protocol
                told = json.loads(message.data)
                self._screen.show(told)
                self._cursor = told.get("cursor", self._cursor)
                match told["type"]:
                    case "ready":
                        self._session = told["session_id"]
                        self._begun = True
                        self._forget(told["received"])
                        sending = asyncio.create_task(self._speak(ws), name="speak")
                    case "received":
                        self._forget(told["received"])
                    case "summary":
                        if reading.done():
                            reading.result()
                        return self._over(told)
                    case "error" if sending is None:
                        # The place of the session that is over may not be free yet.
                        passing = (*PASSING, Code.NO_ROOM) if self._begun else PASSING
                        return None if told["code"] in passing else 3
                    case "error" if sending and sending.done() and told["code"] in PASSING:  # `close` was not taken
                        await asyncio.sleep(told.get("retry_after") or 1.0)
                        await ws.send_str(CLOSE)
            if ws.close_code in (1008, 1013, 4403, 4409):
                return 3
            if sending is not None:
                typer.echo("desifre: the connection broke; taking the session up again", err=True)
            return None
        finally:
            if sending is not None:
                self._until, self._pause = asyncio.get_running_loop().time() + AWAY, 0.0
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _forget(self, received: int) -> None:
        safe = min(max(0, received - self._kept_from), len(self._kept))
        del self._kept[:safe]
        self._kept_from += safe
        self._fewer.set()

    async def _speak(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        at = self._kept_from
        while True:
            self._more.clear()
            while piece := bytes(self._kept[at - self._kept_from :][: 64 << 10]):
                await ws.send_bytes(piece)
                at += len(piece)
            if self._ended:
                await ws.send_str(CLOSE)
                return
            await self._more.wait()
