"""Settings that nobody reads, because their names are none or the launcher's own value wins: told at the start."""

from collections.abc import Iterable
from difflib import get_close_matches

from infra.stack.known import SETTINGS

PREFIX = "DESIFRE_"
SET_BY_LAUNCHER = {
    **dict.fromkeys(
        f"{PREFIX}{name}"
        for name in (
            *("NATS_URL", "NATS_USER", "NATS_PASSWORD", "OPS_PORT", "DROP_SECRET", "STORE_EVENTS_TOKEN"),
            *("STORE_ENDPOINT", "STORE_ACCESS_KEY", "STORE_SECRET_KEY", "STORE_SYNC_DIR"),
        )
    ),
    f"{PREFIX}KEYS_PEPPER": "`desifre pepper` makes a new one",
}
"""What the launcher gives each service itself, and where there is one the way to change it."""
OURS = frozenset(f"{PREFIX}{name}" for name in ("MIN_FREE_BYTES", "STORE_KIND", "URL", "KEY"))
"""What the launcher and the command line read themselves."""
ELSEWHERE = {"PORT": "HTTP_PORT", "BIND": "HTTP_HOST", "HOST": "HTTP_HOST", "MODEL": "DEFAULT_MODEL"}
"""What docker-compose.yml calls them, or what one would guess."""


def warnings(names: Iterable[str]) -> list[str]:
    """A sentence for each variable with our prefix that is no setting, or not one of who starts the launcher."""
    names = set(names)
    known = SETTINGS | OURS
    told = []
    for name in sorted(name for name in names if name.startswith(PREFIX) and name not in known):
        other = ELSEWHERE.get(name.removeprefix(PREFIX))
        near = [PREFIX + other] if other else get_close_matches(name, known, n=1, cutoff=0.85)
        told.append(f"{name} is no setting" + (f"; is {near[0]} meant?" if near else ": see docs/settings.md."))
    for name in sorted(SET_BY_LAUNCHER.keys() & set(names)):
        instead = SET_BY_LAUNCHER[name]
        told.append(
            f"{name} is set by the launcher itself and does nothing here" + (f"; {instead}." if instead else ".")
        )
    return told
