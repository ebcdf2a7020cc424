"""When a service that died is started again."""

QUICK_DEATH = 10.0
"""Seconds: who dies sooner after being ready, or before it, is made to wait."""
FORGIVEN_AFTER = 30.0
"""Seconds of health after which earlier quick deaths no longer count."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


class RestartPolicy:
    """At once, unless it dies young; then after 0.5 s, 1 s, 2 s … 30 s, or `longest` seconds."""

    def __init__(self, longest: float = LONGEST_DELAY) -> None:
        self._longest = longest
        self._quick_deaths = 0

    def delay_after(self, healthy_for: float | None) -> float:
        """Seconds to wait after a death; `healthy_for` is None for who was never ready."""
        if healthy_for is not None and healthy_for >= FORGIVEN_AFTER:
            self._quick_deaths = 0
        if healthy_for is not None and healthy_for >= QUICK_DEATH:
            return 0.0
        self._quick_deaths += 1
        return float(min(self._longest, FIRST_DELAY * 2 ** min(self._quick_deaths - 1, 16)))
