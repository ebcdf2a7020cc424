"""How fast a client may speak."""

import asyncio

FASTEST = 4.0
"""Times real time at which audio is taken in; who sends faster waits."""
AHEAD = 30.0
"""Seconds for which nobody waits: at that speed the first two minutes of audio."""
SHORTEST = 0.01
"""Seconds of audio as which every message counts at least: each is written and synced by itself."""
CONTAINER_RATE = 32_000.0
"""Bytes a second that are taken for real time where the encoding does not tell (256 kbit/s)."""


class Pace:
    """Whoever sends much faster than people speak waits: nothing is dropped, and others are heard too."""

    def __init__(self, rate: float | None) -> None:
        """`rate`: bytes a second, where the encoding tells."""
        self._rate = rate or CONTAINER_RATE
        self._begun = asyncio.get_running_loop().time()
        self._taken = 0.0

    async def took(self, size: int) -> None:
        """Count a message with so many bytes of audio, and wait if they came too fast."""
        self._taken += max(size / self._rate, SHORTEST)
        ahead = self._taken / FASTEST - (asyncio.get_running_loop().time() - self._begun) - AHEAD
        if ahead > 0:
            # The largest message in the leanest encoding makes this 8 s; a ping is waited for longer.
            await asyncio.sleep(ahead)
