"""Log files that stay bounded, and reading them back."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

MAX_BYTES = 8 << 20
KEPT = 2
"""Older files beside the current one: NAME.log.1, NAME.log.2."""
TAIL_BYTES = 256 << 10
"""What is read first of the end of a file, and more of it when that holds too few lines."""
READ_CHUNK = 64 << 10
LONGEST_LINE = 1 << 20


class LogFile:
    """Appends to one file; when it is full it becomes NAME.log.1, and that NAME.log.2."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)

    def write(self, lines: bytes) -> None:
        if self._file.tell() + len(lines) > self._max_bytes and self._file.tell():
            self._rotate()
        self._file.write(lines)

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("ab", buffering=0)


async def copy_lines(output: int, path: Path, on_line: Callable[[bytes], None]) -> None:
    """Copy what comes out of a pipe, which this owns from now on, to a log file until its other end is closed.

    Whole lines at a time. Each write is a chunk to the page cache: not worth a thread.
    """
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(output, "rb", buffering=0)
    )
    log = LogFile(path)
    pending = b""
    try:
        while chunk := await stream.read(READ_CHUNK):
            lines, newline, pending = (pending + chunk).rpartition(b"\n")
            if len(pending) > LONGEST_LINE:
                lines, newline, pending = lines + newline + pending, b"\n", b""
            _emit(log, lines + newline, on_line)
        _emit(log, pending + b"\n" if pending else b"", on_line)
    finally:
        transport.close()
        log.close()


def append(path: Path, line: str) -> None:
    """Add a line of the launcher's own to a log."""
    log = LogFile(path)
    try:
        log.write(f"{line}\n".encode())
    finally:
        log.close()


def _emit(log: LogFile, lines: bytes, on_line: Callable[[bytes], None]) -> None:
    # On a full disk a line is lost; not reading on would stop the process that wrote it.
    with contextlib.suppress(OSError):
        log.write(lines)
    for line in lines.splitlines():
        on_line(line)


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, of its older files too; none where there is no file."""
    found: list[str] = []
    for older in ("", *(f".{number}" for number in range(1, KEPT + 1))):
        if len(found) < lines:
            found = _last(path.with_name(path.name + older), lines - len(found)) + found
    return found


def _last(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            span = min(size, TAIL_BYTES)
            while True:
                file.seek(size - span)
                found = file.read(span).decode(errors="replace").splitlines()
                if span == size or len(found) > lines:  # else the first one may be cut
                    return found[-lines:]
                span = min(size, 4 * span)
    except FileNotFoundError:
        return []


def follow(paths: Mapping[str, Path], interval: float = 0.2) -> Iterator[tuple[str, str]]:
    """(name, line) for every line written from now on, for ever, through rotations."""
    files = {name: path.open("rb") for name, path in paths.items()}
    for file in files.values():
        file.seek(0, os.SEEK_END)
    pending = dict.fromkeys(files, b"")
    while True:
        for name, path in paths.items():
            *whole, pending[name] = (pending[name] + files[name].read()).split(b"\n")
            for line in whole:
                yield name, line.decode(errors="replace")
            if path.exists() and path.stat().st_ino != os.fstat(files[name].fileno()).st_ino:
                files[name].close()
                files[name] = path.open("rb")
        time.sleep(interval)
