"""Who may use the engine next: a few slots, granted batch by batch in order of rank.

An engine takes `regular` batches at once. One more, the express slot, is open only to a rank that goes before
everybody who is on the engine: a short clip then shares the processor with the batches in flight instead of waiting
for them, and goes first at every next batch. While live sessions are being heard one regular slot stays empty, but
never the last: a step of half a second of speech then finds a core of its own, and the batches keep one.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Rank = tuple[int, int]
"""Smaller goes first: (0 for express and 1 for the others, order of arrival)."""


class Slots:
    """Grants the engine's slots. `waiting` counts those who ask and have none; `live` says whether somebody speaks."""

    def __init__(self, regular: int, express: int, live: Callable[[], bool] = lambda: False) -> None:
        self._regular = regular
        self._live = live
        self._express = express
        self._in_use = 0
        self._alone: list[Rank] = []
        self._holders: dict[Rank, int] = {}
        self._order = itertools.count()
        self._queue: list[tuple[Rank, int, asyncio.Future[None]]] = []
        self.changed = asyncio.Event()
        """Set whenever a slot was granted or given back."""

    @property
    def waiting(self) -> int:
        """How many batches wait for a slot."""
        return sum(not future.done() for _, _, future in self._queue)

    @asynccontextmanager
    async def slot(self, rank: Rank, *, alone: bool = False) -> AsyncIterator[None]:
        """Hold a slot for one batch. `alone`: with nobody else on the engine, from first batch to last."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (rank, next(self._order), future))
        if alone and rank not in self._alone:
            self._alone.append(rank)
        self._grant()
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._release(rank)
            self._grant()
            raise
        try:
            yield
        finally:
            self._release(rank)
            self._grant()

    def leave(self, rank: Rank) -> None:
        """This rank is done: if it had the engine to itself, the others may go on."""
        if rank in self._alone:
            self._alone.remove(rank)
            self._grant()

    def _release(self, rank: Rank) -> None:
        self._in_use -= 1
        self._holders[rank] -= 1
        if not self._holders[rank]:
            del self._holders[rank]

    def _free_for(self, rank: Rank) -> bool:
        if self._alone:
            return rank == self._alone[0] and all(holder == rank for holder in self._holders)
        # Somebody holds a slot whenever one is kept empty, and whoever gives one back has them all granted anew.
        regular = max(1, self._regular - 1) if self._live() else self._regular
        if self._in_use < regular:
            return True
        goes_first = rank[0] == 0 and all(rank < holder for holder in self._holders)
        return goes_first and self._in_use < regular + self._express

    def _grant(self) -> None:
        held_back: list[tuple[Rank, int, asyncio.Future[None]]] = []
        while self._queue:
            rank, order, future = heapq.heappop(self._queue)
            if future.done():
                continue
            if self._free_for(rank):
                self._in_use += 1
                self._holders[rank] = self._holders.get(rank, 0) + 1
                future.set_result(None)
            else:
                held_back.append((rank, order, future))
                if not self._alone:
                    break  # whoever comes later has a lower rank
        for item in held_back:
            heapq.heappush(self._queue, item)
        self.changed.set()
