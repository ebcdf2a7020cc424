"""When a receiver that did not take a callback is called again."""

import random
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime

JITTER = 0.2
"""Share by which a wait is made longer or shorter, so that what failed together does not come again together."""
LONGEST = 86_400.0
"""Seconds of a Retry-After that are honoured at most."""


class Schedule:
    """`waits` are the seconds before each further call after the first one."""

    def __init__(self, waits: Sequence[float], draw: Callable[[], float] = random.random) -> None:
        self._waits = tuple(waits)
        self._draw = draw

    def after(self, calls: int, retry_after: float | None = None) -> float | None:
        """Seconds until the next call, after so many of them; None when that was the last.

        `retry_after` is what the receiver asked for: it can make the wait longer and never shorter.
        """
        if calls > len(self._waits):
            return None
        wait = self._waits[calls - 1] * (1 - JITTER + 2 * JITTER * self._draw())
        return max(wait, min(retry_after or 0.0, LONGEST))


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or a date (RFC 9110 10.2.3); None when it says neither."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
