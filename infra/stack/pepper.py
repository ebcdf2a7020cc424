"""The operator's command about the pepper of the keys: a new one beside the old, and later without it."""

import subprocess
from collections.abc import Mapping

from infra.stack import commands, secrets
from infra.stack.errors import StackError
from infra.stack.home import Home, HomeLock

RESTART = "`desifre down && desifre up --detach`"


def renew(home: Home) -> int:
    """Make a new pepper; the keys made under the one before it go on working. Raises StackError."""
    secrets.make_pepper(home.secrets_file)
    print(f"A new pepper is in {home.secrets_file}: back it up.{_when(home)}")
    print("Keys move over when they are used, and `desifre keys list` shows which have not.")
    print("When the rest may go: `desifre pepper --forget`.")
    return 0


def forget(home: Home, environ: Mapping[str, str], *, force: bool) -> int:
    """Take away the pepper before the last one, and with it what works by nothing else. Raises StackError."""
    if secrets.PREVIOUS_PEPPER not in secrets.load(home.secrets_file):
        raise StackError("There is no pepper but the one in use; `desifre pepper` makes a new one.")
    left = _left(home, environ)
    if left and not force:
        raise StackError(
            f"{left} keys have not moved over yet, and would never work again; `desifre keys list` names them as "
            "`previous pepper`. Have them used or revoke them, or say --force."
        )
    secrets.forget(home.secrets_file, secrets.PREVIOUS_PEPPER)
    print(f"The previous pepper is forgotten.{_when(home)}")
    return 0


def _left(home: Home, environ: Mapping[str, str]) -> int:
    """How many keys that work stand under another pepper than the present one. Raises StackError."""
    command, environment = commands.inside(home, environ, "keys-admin", ["unmoved"])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"The keys could not be counted: {done.stderr.strip()}")
    return int(done.stdout)


def _when(home: Home) -> str:
    running = HomeLock(home).holder() is not None
    return f" It counts from the next start on: {RESTART}." if running else ""
