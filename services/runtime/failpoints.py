"""Named places at which a process under test dies as by `kill -9`.

The adapters pass one before and one after every durable write, so that no protocol step can be forgotten and no
protocol code mentions them. Names are `<action>:<kind>:<before|after>`, for example `put:words:before`,
`cas:records:after`, `offer:parts:before`, `ack:jobs:after`; `@3` at the end means the third time.
"""

import os


class Failpoints:
    """At most one armed point; without one every call is a comparison with None."""

    def __init__(self, spec: str | None = None) -> None:
        self._name, _, count = (spec or "").partition("@")
        self._left = int(count or 1)

    def hit(self, action: str, kind: str, when: str) -> None:
        """Die here if this is the armed point, and its count has come."""
        if self._name and self._name == f"{action}:{kind}:{when}":
            self._left -= 1
            if self._left == 0:
                os._exit(137)
