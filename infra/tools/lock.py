"""Whether the locks in requirements/ belong to the dependencies that pyproject.toml names, told without a network.

`stamp` writes a digest of the dependency tables into each lock, `check` compares it.
"""

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ("run.lock", "dev.lock", "speech.lock", "keys.lock", "ingest.lock", "transcriber.lock")
STAMP = re.compile(r"^# dependencies of pyproject\.toml: sha256:([0-9a-f]{64})\n", re.MULTILINE)


def digest(pyproject: str) -> str:
    """SHA-256 over what the locks were made from."""
    content = tomllib.loads(pyproject)
    project = content["project"]
    tables = [
        content["build-system"]["requires"],
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        content.get("dependency-groups", {}),
    ]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def stamped(lock: str, digest_now: str) -> str:
    """The lock with this digest in it."""
    return f"# dependencies of pyproject.toml: sha256:{digest_now}\n" + STAMP.sub("", lock)


def is_current(lock: str, digest_now: str) -> bool:
    found = STAMP.search(lock)
    return found is not None and found[1] == digest_now


def main(arguments: Sequence[str]) -> int:
    locks = [ROOT / "requirements" / name for name in LOCKS]
    now = digest((ROOT / "pyproject.toml").read_text())
    match arguments:
        case ["stamp"]:
            for lock in locks:
                lock.write_text(stamped(lock.read_text(), now))
        case ["check"]:
            stale = [lock.name for lock in locks if not is_current(lock.read_text(), now)]
            if stale:
                print(f"pyproject.toml changed since {' and '.join(stale)} was made: run `make lock`.")
                return 1
            print("The locks are current.")
        case _:
            print("usage: python -m infra.tools.lock stamp|check", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
