"""Small objects that this process has just written or read: what is written once need not be fetched to be known."""

from collections import OrderedDict

LARGEST = 64 << 10
"""Bytes of an object that is kept; a short recording's are a few kilobytes each."""
MOST = 8 << 20
"""Bytes that are kept in all; the oldest go first."""


class Recent:
    """The bytes of objects that are written once, by key. The store has them all the same."""

    def __init__(self) -> None:
        self._objects: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def keep(self, key: str, data: bytes) -> None:
        """Keep what lies in the store under this key, and nothing else."""
        if len(data) > LARGEST:
            return
        self.take(key)
        self._objects[key] = data
        self._bytes += len(data)
        while self._bytes > MOST:
            _, oldest = self._objects.popitem(last=False)
            self._bytes -= len(oldest)

    def take(self, key: str) -> bytes | None:
        """The bytes of this object, which are then here no more; None when they are not here."""
        data = self._objects.pop(key, None)
        if data is not None:
            self._bytes -= len(data)
        return data
