"""Who runs in one process, one after the other, and who begins first, when tests run several at a time.

A service that several files share is started once in each process that runs one of them. What takes long begins
early, so that at the end no process waits for another.
"""

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

TOGETHER = {
    "callbacks": ("tests/doors/callbacks/test_told.py", "tests/doors/callbacks/test_receivers.py"),
    "faults": ("tests/faults/test_channels.py", "tests/faults/test_races.py"),
    "live by digest": ("tests/live/test_takeover.py",),
    "live": ("tests/live/",),
    "page": ("tests/page/",),
    "whisper": ("tests/pipeline/test_o", "tests/pipeline/test_silence.py", "tests/pipeline/test_whole_way.py"),
}
"""Beginnings of paths of files that share a service which nobody else uses; the first that fits counts."""
FIRST = (
    "tests/faults/test_kill_points.py",
    "tests/live/",
    "tests/doors/callbacks/",
    "tests/doors/test_stack.py",
    "tests/doors/test_drop",
    "tests/faults/",
    "tests/page/",
    "tests/pipeline/",
    "tests/doors/test_st",
    "tests/doors/test_openai",
    "tests/doors/",
    "tests/security/",
    "tests/contract/",
)
"""Beginnings of paths: the longest first, and what computes much beside what waits; the rest takes no time."""


def begins(path: str) -> int:
    """The place of a file in the order."""
    return next((n for n, first in enumerate(FIRST) if path.startswith(first)), len(FIRST))


class Sharing(LoadScopeScheduling):
    """Gives each process whole files, or whole groups of files, in the order of the collection."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((name for name, paths in TOGETHER.items() if path.startswith(paths)), path)


def in_order(items: list[pytest.Item]) -> None:
    """Put who takes longest first; the order within a file stays."""
    items.sort(key=lambda item: begins(item.nodeid))
