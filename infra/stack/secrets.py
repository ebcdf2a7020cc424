"""The passwords and keys of one home, made at its first start and kept from then on."""

import fcntl
import json
import os
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.stack.errors import StackError

SECRET_LENGTH = 40
"""Letters, 5.7 bits each: 228 bits."""
PEPPER = "keys.pepper"
PREVIOUS_PEPPER = "keys.pepper.previous"
"""The pepper before the one there is: keys that were not used since are found under it."""


def load(path: Path) -> Mapping[str, str]:
    """The secrets of a home that was started before. Raises StackError; others than these are never made instead."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        _check_not_lost(path)
        raise StackError(f"{path} is not there: this home was never started.") from None
    except ValueError:
        raise StackError(f"{path} is damaged. Restore it: without it the keys given out are worth nothing.") from None


def load_or_make(path: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The secrets of a home; those of `names` that it lacks are made and written down first. Raises StackError."""
    with _alone(path):
        if path.exists():
            known = dict(load(path))
        else:
            _check_not_lost(path)
            known = {}
        missing = [name for name in names if name not in known]
        if missing:
            known |= {name: random() for name in missing}
            _write(path, known)
    return known


def make_anew(path: Path, name: str) -> Mapping[str, str]:
    """The secrets of a home that was started before, with a new one of this name in place of any old one."""
    with _alone(path):
        known = {**load(path), name: random()}
        _write(path, known)
    return known


def make_pepper(path: Path) -> None:
    """A new pepper of the keys; the one before it stays known until it is forgotten. Raises StackError."""
    with _alone(path):
        known = load(path)
        if PREVIOUS_PEPPER in known:
            raise StackError("The last new pepper is still beside the one before it: `desifre pepper --forget` first.")
        _write(path, {**known, PREVIOUS_PEPPER: known[PEPPER], PEPPER: random()})


def forget(path: Path, name: str) -> Mapping[str, str]:
    """The secrets of a home that was started before, without any of this name."""
    with _alone(path):
        known = {other: value for other, value in load(path).items() if other != name}
        _write(path, known)
    return known


def random() -> str:
    # Letters only: nats-server reads a value from the environment that starts with a digit as a number.
    return "".join(secrets.choice(string.ascii_letters) for _ in range(SECRET_LENGTH))


def _check_not_lost(path: Path) -> None:
    """Raise StackError where keys are kept beside the secrets without which none of them works."""
    keys = path.parents[1] / "keys"
    if (keys / "keys.db").exists():
        raise StackError(
            f"{path} is not there, and the keys in {keys} work by nothing else. Restore it from the back-up; if there "
            f"is none, move {keys} away: the next start makes new secrets, for new keys."
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the secrets meanwhile: whoever read them before would write an old copy over the change."""
    try:
        descriptor = os.open(path.with_name(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        load(path)  # Says what it means that not even the folder is there.
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, known: Mapping[str, str]) -> None:
    """Whole or not at all, also through a power cut: the pepper of all keys is in here. Called by one at a time."""
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(known, indent=1))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
