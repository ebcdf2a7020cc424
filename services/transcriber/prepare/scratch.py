"""Where a source lies while it is decoded: a file without a name, so that nothing of it can stay behind."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

IN_MEMORY = 32 << 20
"""Sources up to this many bytes are held in memory (a decoder needs to seek, so a pipe will not do)."""


class Scratch:
    """Makes nameless files: in memory for small sources, else in a folder that is on a disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def filled(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[int]:
        """A file descriptor, rewound, that holds `chunks`; closed (and so gone) at the end."""
        in_memory = size <= IN_MEMORY and hasattr(os, "memfd_create")
        fd = os.memfd_create("source") if in_memory else await asyncio.to_thread(self._open)
        try:
            async for chunk in chunks:
                if in_memory:
                    _write_all(fd, chunk)  # a copy in memory: quicker than a thread
                else:
                    await asyncio.to_thread(_write_all, fd, chunk)
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
