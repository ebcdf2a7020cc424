"""Settings that nobody reads, because their names are none: told at the start, since all else would pass in silence."""

from collections.abc import Iterable
from difflib import get_close_matches

from infra.stack.known import SETTINGS

PREFIX = "DESIFRE_"
OURS = frozenset(f"{PREFIX}{name}" for name in ("MIN_FREE_BYTES", "STORE_KIND", "URL", "KEY"))
"""What the launcher and the command line read themselves."""
ELSEWHERE = {"PORT": "HTTP_PORT", "BIND": "HTTP_HOST", "HOST": "HTTP_HOST", "MODEL": "DEFAULT_MODEL"}
"""What docker-compose.yml calls them, or what one would guess."""


def warnings(names: Iterable[str]) -> list[str]:
    """A sentence for each variable with our prefix that is no setting."""
    known = SETTINGS | OURS
    told = []
    for name in sorted(name for name in names if name.startswith(PREFIX) and name not in known):
        other = ELSEWHERE.get(name.removeprefix(PREFIX))
        near = [PREFIX + other] if other else get_close_matches(name, known, n=1, cutoff=0.85)
        told.append(f"{name} is no setting" + (f"; is {near[0]} meant?" if near else ": see docs/settings.md."))
    return told
