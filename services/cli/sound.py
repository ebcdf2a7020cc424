"""Where the command line's live sound comes from: 16 kHz mono samples, 16 bits, little end first."""

import asyncio
import shutil
import wave
from collections.abc import AsyncIterator
from contextlib import suppress
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


async def file(path: Path, *, fast: bool) -> AsyncIterator[bytes]:
    """A recording in pieces, as fast as it was spoken unless `fast`. Raises `NoSound`."""
    loop = asyncio.get_running_loop()
    begun, sent = loop.time(), 0
    async for piece in _wave(path) if _is_plain(path) else _programs(_converter(path)):
        yield piece
        sent += len(piece)
        if not fast:
            await asyncio.sleep(max(0.0, begun + sent / (2 * RATE) - loop.time()))


async def microphone() -> AsyncIterator[bytes]:
    """What is said here, until the program is stopped. Raises `NoSound`."""
    for command in MICROPHONES:
        if shutil.which(command[0]):
            async for piece in _programs(command):
                yield piece
            return
    raise NoSound(f"No program that records: install one of {', '.join(command[0] for command in MICROPHONES)}.")


def _is_plain(path: Path) -> bool:
    try:
        with wave.open(str(path)) as sound:
            return (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (RATE, 1, 2)
    except (wave.Error, EOFError, OSError):
        return False


async def _wave(path: Path) -> AsyncIterator[bytes]:
    with wave.open(str(path)) as sound:
        while piece := await asyncio.to_thread(sound.readframes, PIECE // 2):
            yield piece


def _converter(path: Path) -> tuple[str, ...]:
    if not shutil.which("ffmpeg"):
        raise NoSound(f"{path.name} is no WAV of 16 kHz mono with 16 bits, and ffmpeg, which makes one, is not here.")
    file = f"file:{path}"
    return ("ffmpeg", "-loglevel", "error", "-i", file, "-f", "s16le", "-ar", str(RATE), "-ac", "1", "-")


async def _programs(command: tuple[str, ...]) -> AsyncIterator[bytes]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    try:
        while True:
            try:
                yield await process.stdout.readexactly(PIECE)
            except asyncio.IncompleteReadError as last:
                if last.partial:
                    yield last.partial
                break
        if await process.wait():
            raise NoSound(f"{command[0]} ended with code {process.returncode}.")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
