"""Named places at which a process under test dies as by `kill -9`.

The adapters pass one before and one after every durable write, so that no protocol step can be forgotten and no
protocol code mentions them. Names are `<action>:<kind>:<before|after>`, for example `put:words:before`,
`cas:records:after`, `offer:parts:before`, `ack:jobs:after`; `@3` at the end means the third time. `trace@FILE` does no
harm: every name that is passed is appended to the file, one a line, so that a test can tell that it knows them all.
"""

import os
from pathlib import Path

TRACE = "trace"


class Failpoints:
    """At most one armed point; without one every call is a look at an empty name."""

    def __init__(self, spec: str | None = None) -> None:
        self._name, _, rest = (spec or "").partition("@")
        self._trace = Path(rest) if self._name == TRACE else None
        self._left = 1 if self._trace else int(rest or 1)

    def hit(self, action: str, kind: str, when: str) -> None:
        """Die here if this is the armed point, and its count has come."""
        if not self._name:
            return
        name = f"{action}:{kind}:{when}"
        if self._trace is not None:
            with self._trace.open("a") as file:
                file.write(f"{name}\n")
        elif name == self._name:
            self._left -= 1
            if self._left == 0:
                os._exit(137)
