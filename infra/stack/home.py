"""The one folder that a stack keeps everything in."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.stack.errors import StackError

DEFAULT_HOME = "./var"
DEFAULT_MIN_FREE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Home:
    """Where everything lies under the root; the root is absolute."""

    root: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Home":
        return cls(Path(environ.get("DESIFRE_HOME") or DEFAULT_HOME).expanduser().resolve())

    @property
    def run(self) -> Path:
        """What is true of the running stack alone: lock, ports, state, rendered configuration, sockets."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def secrets_file(self) -> Path:
        return self.root / "secrets" / "stack.json"

    @property
    def store_users_file(self) -> Path:
        return self.root / "secrets" / "s3-users.json"

    @property
    def bus_passwords_file(self) -> Path:
        return self.root / "secrets" / "nats-users.conf"

    @property
    def ports_file(self) -> Path:
        return self.run / "ports.json"

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def store(self) -> Path:
        return self.root / "s3"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def prepare(self) -> None:
        """Make the folders, for their owner alone. Raises StackError where that is not possible."""
        folders = (self.run, self.logs, self.secrets_file.parent, self.nats, self.store, self.keys, self.models)
        try:
            for folder in (self.root, *folders):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"{self.root} cannot be the home: {error.strerror}. Choose one with DESIFRE_HOME."
            ) from None

    def check_disk(self, min_free_bytes: int) -> None:
        """Raise StackError when the disk has less than that left."""
        free = shutil.disk_usage(self.root).free
        if free < min_free_bytes:
            raise StackError(
                f"The disk of {self.root} is full: {free / 2**30:.1f} GiB are free, {min_free_bytes / 2**30:.1f} are "
                "needed. Make room, choose another disk with DESIFRE_HOME, or lower DESIFRE_MIN_FREE_BYTES."
            )

    def known_ports(self) -> dict[str, int]:
        """The ports of the last start; none on a home that was not started, or was restored from a back-up since."""
        return dict(read_json(self.ports_file))

    def ports(self) -> dict[str, int]:
        """The ports of the last start. Raises StackError where none are known."""
        if not (known := self.known_ports()):
            raise StackError(
                f"{self.ports_file} is not there: start once with `desifre up --detach`, then do it again."
            )
        return known


class HomeLock:
    """Held by the one launcher of a home for as long as it lives; the kernel lets go of it, however it dies."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._path = home.run / "lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raise StackError when another launcher runs on this home."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StackError(
                f"A stack runs on {self._home.root} already (process {self.holder() or 'unknown'}). "
                "`desifre status` shows it, `desifre down` stops it; choose another home with DESIFRE_HOME."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """Process id of the launcher that runs on this home, None when none does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 32) or b"0") or None
        else:
            return None
        finally:
            os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """A small file of ours, empty when it is not there or was cut off."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all for whoever reads it meanwhile."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)
