"""What a decoder reads from, as PyAV wants it: an open file, a recording in the store, or somebody who speaks.

Runs in the sandbox, with no more than a descriptor to read and a pipe to write.
"""

import os
from collections import OrderedDict
from collections.abc import Callable

from services.contracts.errors import Code
from services.transcriber.prepare.media import ASKED, MediaError, pack_wish, readings

_READ = 256 << 10
_HEAD = 64  # bytes that tell the format of a live source
_KEPT = 4  # pieces of a recording that are kept: containers go back and forth between an index and what it points to


class Source:
    """An open file as PyAV wants it. Reads by position, since the descriptor's own is shared with the parent."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self.size = os.fstat(fd).st_size

    def read(self, wanted: int = -1) -> bytes:
        data = os.pread(self._fd, wanted if wanted >= 0 else self.size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read_at(self, wanted: int, offset: int) -> bytes:
        return os.pread(self._fd, wanted, offset)


class Ranged:
    """A recording that lies in the store, of which the parent fetches what is asked for, `ASKED` bytes at a time.

    What is wanted is said on the pipe on which the samples go out; the bytes come in on `fd`. So a recording of any
    size is decoded from its first bytes on, is never copied to a disk, and the decoder needs no way to the store.
    """

    def __init__(self, fd: int, say: Callable[[bytes], None], size: int) -> None:
        self._fd = fd
        self._say = say
        self._at = 0
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        self._left = readings(size)
        self.size = size

    def read(self, wanted: int = -1) -> bytes:
        data = self.read_at(wanted if wanted >= 0 else self.size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read_at(self, wanted: int, offset: int) -> bytes:
        end = min(offset + wanted, self.size)
        found = []
        while offset < end:
            first = offset - offset % ASKED
            data = self._piece(first)[offset - first : end - first]
            found.append(data)
            offset += len(data)
        return b"".join(found)

    def _piece(self, first: int) -> bytes:
        piece = self._pieces.get(first)
        if piece is None:
            if not self._left:
                raise MediaError(Code.MEDIA_LIMITS, "Its parts lie in too great a disorder to be read.")
            self._left -= 1
            self._say(pack_wish(first))
            piece = self._receive(min(ASKED, self.size - first))
            while len(self._pieces) >= _KEPT:
                self._pieces.popitem(last=False)
            self._pieces[first] = piece
        self._pieces.move_to_end(first)
        return piece

    def _receive(self, size: int) -> bytes:
        piece = bytearray()
        while len(piece) < size:
            data = os.read(self._fd, size - len(piece))
            if not data:
                os._exit(0)  # the parent is gone, or could not fetch it: no end of a file, so nothing may be made of it
            piece += data
        return bytes(piece)


class Flow:
    """A pipe that somebody speaks into, as PyAV wants it: it cannot seek, and reads what has come so far."""

    size = 1 << 62
    """It has no end that anything could be compared with."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._head: bytes | None = None
        self._begun = False

    def read(self, wanted: int = -1) -> bytes:
        if not self._begun:
            self._begun = True
            if self._head:
                return self._head
        return os.read(self._fd, wanted if wanted >= 0 else _READ)

    def read_at(self, wanted: int, offset: int) -> bytes:
        """Of the first bytes, by which the format is told."""
        if self._head is None:
            self._head = b""
            while len(self._head) < _HEAD and (data := os.read(self._fd, 1 << 16)):
                self._head += data
        return self._head[offset : offset + wanted]
