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

from services.cli.api import Api, Unreachable
from services.cli.commands.client import HERE, Key, Url, run_with
from services.cli.sound import File, Microphone, NoSound

TRIES = 30
"""Attempts, a second apart, to take up a session whose connection broke."""
KEPT = 4 << 20
"""Bytes of sound that wait here until they are safe; what reads a file waits for them."""


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
    """One session; a broken connection is taken up again with what was not yet safe."""

    def __init__(self, api: Api, sound: AsyncIterator[bytes], screen: _Screen) -> None:
        self._api = api
        self._sound = sound
        self._screen = screen
        self._kept = bytearray()
        self._kept_from = 0
        self._ended = False
        self._session: str | None = None
        self._cursor: str | None = None
        self._more = asyncio.Event()
        self._fewer = asyncio.Event()

    async def hold(self, start: dict[str, str]) -> int:
        """To its end: 0 when the session became a transcript."""
        reading = asyncio.create_task(self._read(), name="sound")
        try:
            for tries in range(TRIES):
                try:
                    async with self._api.socket() as ws:
                        first: dict[str, str | None] = {"type": "start", **start}
                        if self._session is not None:
                            first = {"type": "resume", "session_id": self._session, "after": self._cursor}
                        await ws.send_str(json.dumps({name: value for name, value in first.items() if value}))
                        code = await self._converse(ws, reading)
                except (Unreachable, ConnectionError):
                    if self._session is None:
                        raise
                    code = None  # it may be started again at this very moment
                if code is not None:
                    return code
                typer.echo("desifre: the connection broke; taking the session up again", err=True)
                await asyncio.sleep(min(1.0, tries))
            return 4
        finally:
            self._screen.end_line()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

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
                told = json.loads(message.data)
                self._screen.show(told)
                self._cursor = told.get("cursor", self._cursor)
                match told["type"]:
                    case "ready":
                        self._session = told["session_id"]
                        self._forget(told["received"])
                        sending = asyncio.create_task(self._speak(ws), name="speak")
                    case "received":
                        self._forget(told["received"])
                    case "summary":
                        if reading.done():
                            reading.result()
                        return 0 if told["state"] == "completed" else 1
                    case "error" if sending is None and told["code"] != "unavailable":
                        return 3
            if ws.close_code in (1008, 1013, 4403, 4409):
                return 3
            return None
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _forget(self, received: int) -> None:
        del self._kept[: max(0, received - self._kept_from)]
        self._kept_from = max(self._kept_from, received)
        self._fewer.set()

    async def _speak(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        at = self._kept_from
        while True:
            self._more.clear()
            while piece := bytes(self._kept[at - self._kept_from :][: 64 << 10]):
                await ws.send_bytes(piece)
                at += len(piece)
            if self._ended:
                await ws.send_str(json.dumps({"type": "close"}))
                return
            await self._more.wait()
