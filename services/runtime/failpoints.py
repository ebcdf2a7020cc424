"""Named places at which a process under test dies as by `kill -9`.

The adapters pass one before and one after every durable write, so that no protocol step can be forgotten and no
protocol code mentions them. Names are `<action>:<kind>:<before|after>`, for example `put:words:before`,
`cas:records:after`, `offer:parts:before`, `ack:jobs:after`; `@3` at the end means the third time.

Two specifications let a test do without a new process for each point: `file@PATH` dies at the point that the file
names, and removes the file first, so that the next run lives; `trace@PATH` harms nobody and appends every name that is
passed to the file, so that a test can tell whether it knows them all.
"""

import os
from pathlib import Path

FILE = "file"
TRACE = "trace"


class Failpoints:
    """At most one armed point; without one every call is a look at an empty string."""

    def __init__(self, spec: str | None = None) -> None:
        self._spec = spec or ""
        kind, _, path = self._spec.partition("@")
        self._trace = Path(path) if kind == TRACE else None
        self._file = Path(path) if kind == FILE else None
        self._armed = ""
        self._passed = 0

    def hit(self, action: str, kind: str, when: str) -> None:
        """Die here if this is the armed point, and its count has come."""
        if not self._spec:
            return
        name = f"{action}:{kind}:{when}"
        if self._trace is not None:
            with self._trace.open("a") as trace:
                trace.write(f"{name}\n")
            return
        self._arm(self._file.read_text() if self._file and self._file.exists() else "" if self._file else self._spec)
        wanted, _, count = self._armed.partition("@")
        if name == wanted:
            self._passed += 1
            if self._passed == int(count or 1):
                if self._file is not None:
                    self._file.unlink()
                os._exit(137)

    def _arm(self, spec: str) -> None:
        if spec != self._armed:
            self._armed, self._passed = spec, 0
