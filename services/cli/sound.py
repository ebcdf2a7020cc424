"""Where the command line's live sound comes from: 16 kHz mono samples, 16 bits, little end first."""

import asyncio
import shutil
import wave
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path

RATE = 16_000
PIECE = RATE // 10 * 2
"""Bytes of a tenth of a second."""
MICROPHONES = (
    ("arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(RATE), "-c", "1", "-"),
    ("rec", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", str(RATE), "-c", "1", "-"),
    ("ffmpeg", "-loglevel", "error", "-f", "pulse", "-i", "default", "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-"),
)
"""Programs that record, the first one that is there is used."""


class NoSound(Exception):  # noqa: N818 - what is missing
    """Nothing here can read this file, or record."""


class Microphone:
    """What is said here. Raises `NoSound` where no program is there that records."""

    def __init__(self) -> None:
        found = next((command for command in MICROPHONES if shutil.which(command[0])), None)
        if found is None:
            raise NoSound(f"No program that records: install one of {', '.join(one[0] for one in MICROPHONES)}.")
        self._command = found

    async def pieces(self, stop: asyncio.Event) -> AsyncIterator[bytes]:
        """Sound until `stop` is set, or until the program ends. Raises `NoSound` when it fails, or gives none."""
        silent = True
        async with aclosing(_output(self._command, stop)) as output:
            async for piece in output:
                silent = False
                yield piece
        if silent and not stop.is_set():
            raise NoSound(f"{self._command[0]} gave no sound: is there a microphone?")


class File:
    """A recording, as fast as it was spoken unless `fast`. Raises `NoSound` where nothing here can read it."""

    def __init__(self, path: Path, *, fast: bool) -> None:
        self._path = path
        self._fast = fast
        self._plain = _is_plain(path)
        if not self._plain and not shutil.which("ffmpeg"):
            raise NoSound(
                f"{path.name} is no WAV of 16 kHz mono with 16 bits, and ffmpeg, which makes one, is not here."
            )

    async def pieces(self, stop: asyncio.Event) -> AsyncIterator[bytes]:
        """Sound until its end, or until `stop` is set. Raises `NoSound` when it cannot be read."""
        loop = asyncio.get_running_loop()
        begun, sent = loop.time(), 0
        source = _wave(self._path) if self._plain else _output(_converter(self._path), stop)
        async with aclosing(source) as pieces:
            async for piece in pieces:
                if stop.is_set():
                    return
                yield piece
                sent += len(piece)
                if not self._fast:
                    await asyncio.sleep(max(0.0, begun + sent / (2 * RATE) - loop.time()))


def _is_plain(path: Path) -> bool:
    try:
        with wave.open(str(path)) as sound:
            return (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2)
    except (wave.Error, EOFError, OSError):
        return False


async def _wave(path: Path) -> AsyncGenerator[bytes, None]:
    with wave.open(str(path)) as sound:
        while piece := await asyncio.to_thread(sound.readframes, PIECE // 2):
            yield piece


def _converter(path: Path) -> tuple[str, ...]:
    file = f"file:{path}"
    return ("ffmpeg", "-loglevel", "error", "-i", file, "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-")


async def _output(command: tuple[str, ...], stop: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """What a program writes, until its end; `stop` ends it, and what it has written by then still comes."""
    try:
        # In a session of its own: Ctrl-C is for us, who then let it end.
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise NoSound(f"{command[0]} cannot be started: {error.strerror}.") from None
    assert process.stdout

    async def end() -> None:
        await stop.wait()
        with suppress(ProcessLookupError):
            process.terminate()

    ending = asyncio.create_task(end(), name="recorder")
    try:
        while True:
            try:
                yield await process.stdout.readexactly(PIECE)
            except asyncio.IncompleteReadError as last:
                if last.partial:
                    yield last.partial
                break
        if await process.wait() and not stop.is_set():
            raise NoSound(f"{command[0]} ended with code {process.returncode}.")
    finally:
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
