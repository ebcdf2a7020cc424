"""The passwords and keys of one home, made at its first start and kept from then on."""

import json
import os
import secrets
import string
from collections.abc import Iterable, Mapping
from pathlib import Path

from infra.stack.errors import StackError

SECRET_LENGTH = 40
"""Letters, 5.7 bits each: 228 bits."""
PEPPER = "keys.pepper"
PREVIOUS_PEPPER = "keys.pepper.previous"
"""The pepper before the one there is: keys that were not used since are found under it."""


def load(path: Path) -> Mapping[str, str]:
    """The secrets of a home that was started before."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise StackError(f"{path} is not there: this home was never started.") from None
    except ValueError:
        raise StackError(f"{path} is damaged. Restore it: without it the keys given out are worth nothing.") from None


def load_or_make(path: Path, names: Iterable[str]) -> Mapping[str, str]:
    """The secrets of a home; those of `names` that it lacks are made and written down first."""
    known = dict(load(path)) if path.exists() else {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= {name: random() for name in missing}
        _write(path, json.dumps(known, indent=1))
    return known


def make_anew(path: Path, name: str) -> Mapping[str, str]:
    """The secrets of a home that was started before, with a new one of this name in place of any old one."""
    known = {**load(path), name: random()}
    _write(path, json.dumps(known, indent=1))
    return known


def make_pepper(path: Path) -> None:
    """A new pepper of the keys; the one before it stays known until it is forgotten. Raises StackError."""
    known = load(path)
    if PREVIOUS_PEPPER in known:
        raise StackError("The last new pepper is still beside the one before it: `desifre pepper --forget` first.")
    _write(path, json.dumps({**known, PREVIOUS_PEPPER: known[PEPPER], PEPPER: random()}, indent=1))


def forget(path: Path, name: str) -> Mapping[str, str]:
    """The secrets of a home that was started before, without any of this name."""
    known = {other: value for other, value in load(path).items() if other != name}
    _write(path, json.dumps(known, indent=1))
    return known


def random() -> str:
    # Letters only: nats-server reads a value from the environment that starts with a digit as a number.
    return "".join(secrets.choice(string.ascii_letters) for _ in range(SECRET_LENGTH))


def _write(path: Path, text: str) -> None:
    """Whole or not at all, also through a power cut: the pepper of all keys is in here."""
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
