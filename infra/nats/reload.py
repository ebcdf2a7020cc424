"""Has a running nats-server read its configuration again."""

import json
import os
import signal
import time
import urllib.request
from typing import Any

TIMES = 2
"""nats-server 2.15.1 makes a new account at the first reading, and what is imported into it at the second."""
TIMEOUT = 10.0
POLL = 0.02


def reload(pid: int, monitor_port: int) -> bool:
    """Return when it has done so and users that are new may log in; False when it does not within `TIMEOUT`."""
    until = time.monotonic() + TIMEOUT
    for _ in range(TIMES):
        before = _loaded(monitor_port)
        os.kill(pid, signal.SIGHUP)
        while _loaded(monitor_port) == before:
            if time.monotonic() > until:
                return False
            time.sleep(POLL)
    return True


def _loaded(monitor_port: int) -> Any:
    """When it read its configuration last."""
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor_port}/varz", timeout=TIMEOUT) as answer:
        return json.load(answer)["config_load_time"]
