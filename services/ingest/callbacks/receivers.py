"""Whose turn it is at a receiver: few calls at once, tenants in turn, and a short line; the rest comes again later.

A slow receiver so holds a bounded number of calls, and whoever calls another one never waits behind them.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

AT_ONCE = 4
"""Calls of one receiver (host:port) at once."""
LINE = 8
"""Calls of one tenant at one receiver that are under way or stand in line."""
SOONEST, LATEST = 0.25, 300.0
"""Seconds after which whoever found the line full comes again."""


@dataclass
class _Door:
    """One receiver, while anybody calls it."""

    calling: int = 0
    inside: Counter[str] = field(default_factory=Counter)
    lines: OrderedDict[str, deque[asyncio.Future[None]]] = field(default_factory=OrderedDict)
    pace: float = 1.0
    """Seconds that a call takes here, as a moving average."""
    due: dict[str, float] = field(default_factory=dict)
    """By tenant, when the last of those sent away comes again."""


class Receivers:
    """Counts calls by receiver and tenant."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._doors: dict[str, _Door] = {}

    def full(self, tenant: str, endpoint: str) -> float | None:
        """None if this tenant may stand in line here; else the seconds after which to come again.

        Those sent away come again one after the other, at the pace of the receiver: however many they are, few of
        them come at any moment.
        """
        door = self._doors.get(endpoint)
        if door is None or door.inside[tenant] < LINE:
            return None
        now = self._clock()
        door.due[tenant] = max(door.due.get(tenant, now), now) + door.pace / AT_ONCE
        return min(max(door.due[tenant] - now, SOONEST), LATEST)

    @asynccontextmanager
    async def turn(self, tenant: str, endpoint: str) -> AsyncIterator[None]:
        """Wait for one's turn and have it."""
        door = self._doors.setdefault(endpoint, _Door())
        door.inside[tenant] += 1
        try:
            await _enter(door, tenant)
            begun = self._clock()
            try:
                yield
            finally:
                door.pace += (self._clock() - begun - door.pace) / 8
                _next(door)
        finally:
            door.inside[tenant] -= 1
            if not +door.inside:
                del self._doors[endpoint]


async def _enter(door: _Door, tenant: str) -> None:
    if door.calling < AT_ONCE:
        door.calling += 1
        return
    turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    line = door.lines.setdefault(tenant, deque())
    line.append(turn)
    try:
        await turn
    except asyncio.CancelledError:
        if not turn.cancelled():
            _next(door)  # it was ours by then
        elif turn in line:
            line.remove(turn)
            if not line:
                del door.lines[tenant]
        raise


def _next(door: _Door) -> None:
    """One call has ended: the tenant who has waited longest for a turn has it."""
    while door.lines:
        tenant, line = door.lines.popitem(last=False)
        turn = line.popleft()
        if line:
            door.lines[tenant] = line
        if not turn.cancelled():
            turn.set_result(None)
            return
    door.calling -= 1
