"""The durability barrier for a store that does not sync by itself.

After a power cut none of 200 acknowledged objects was left in SeaweedFS, and all of them with `syncfs` on its data
folder after the put (about 6 ms). Callers that come together share one call.
"""

import asyncio
import ctypes
import os
from pathlib import Path


class Barrier:
    """`syncfs(2)` on a folder's file system; without a folder the store is trusted to sync, and waiting is free."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._next: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return when everything written before this call is on the disk. Raises `OSError`."""
        if self._folder is None:
            return
        # A sync that is under way may have begun before the caller's write: only the next one counts.
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        mine = self._next
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work(), name="syncfs")
        await asyncio.shield(mine)

    async def _work(self) -> None:
        while (waiters := self._next) is not None:
            self._next = None
            try:
                await asyncio.to_thread(_syncfs, self._folder)
            except OSError as error:
                if not waiters.cancelled():
                    waiters.set_exception(error)
            else:
                if not waiters.cancelled():
                    waiters.set_result(None)


def _syncfs(folder: Path | None) -> None:
    fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "syncfs"):
            os.sync()  # macOS has no syncfs; a full sync is slower and just as safe
        elif libc.syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(fd)
