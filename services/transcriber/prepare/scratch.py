"""Where a source lies while it is decoded: a file without a name, so that nothing of it can stay behind."""

import asyncio
import ctypes
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

IN_MEMORY = 32 << 20
"""Sources up to this many bytes are held in memory (a decoder needs to seek, so a pipe will not do)."""
BEHIND = 8 << 20
"""Bytes that may be written and not yet be on their way to the disk."""
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
"""Flags of sync_file_range(2)."""


class Scratch:
    """Makes nameless files: in memory for small sources, else in a folder that is on a disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def filled(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[int]:
        """A file descriptor, rewound, that holds `chunks`; closed (and so gone) at the end."""
        in_memory = size <= IN_MEMORY and hasattr(os, "memfd_create")
        fd = os.memfd_create("source") if in_memory else await asyncio.to_thread(self._open)
        written = 0
        try:
            async for chunk in chunks:
                if in_memory:
                    _write_all(fd, chunk)  # a copy in memory: quicker than a thread
                    continue
                await asyncio.to_thread(_write_all, fd, chunk)
                if (written + len(chunk)) // BEHIND > written // BEHIND:
                    await asyncio.to_thread(_write_out, fd, written // BEHIND * BEHIND)
                written += len(chunk)
            os.lseek(fd, 0, os.SEEK_SET)
            yield fd
        finally:
            os.close(fd)

    def _open(self) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            return os.dup(file.fileno())


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_out(fd: int, start: int) -> None:
    """Send the block that begins at `start` on its way to the disk, and wait for the one before it.

    Left to itself the system would keep the whole source in its cache, and the next barrier, which writes out
    whatever the file system holds, would make somebody's short job wait for all of it.
    """
    sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if sync_file_range is None:
        return  # not Linux
    sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    sync_file_range(fd, start, BEHIND, _WRITE)
    if start >= BEHIND:
        sync_file_range(fd, start - BEHIND, BEHIND, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)
