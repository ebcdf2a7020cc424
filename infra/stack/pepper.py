"""The operator's command about the pepper of the keys: a new one beside the old, and later without it."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from infra.stack import commands, secrets
from infra.stack.errors import StackError
from infra.stack.home import Home, HomeLock

START = "`desifre up --detach`"


def renew(home: Home) -> int:
    """Make a new pepper; the keys made under the one before it go on working. Raises StackError."""
    with _stopped(home):
        secrets.make_pepper(home.secrets_file)
    print(f"A new pepper is in {home.secrets_file}: back it up, then start with {START}.")
    print("Keys move over when they are used, and `desifre keys list` shows which have not.")
    print("When the rest may go: `desifre pepper --forget`.")
    return 0


def forget(home: Home, environ: Mapping[str, str], *, force: bool) -> int:
    """Take away the pepper before the last one, and with it what works by nothing else. Raises StackError."""
    if secrets.PREVIOUS_PEPPER not in secrets.load(home.secrets_file):
        raise StackError("There is no pepper but the one in use; `desifre pepper` makes a new one.")
    # Also while it runs: nothing is made under the previous pepper any more, so what is counted only gets less.
    keys, signing, invitations = map(int, _ask_keys(home, environ, "unmoved").split())
    left = (
        f"{keys} keys that have not moved over; {signing} keys whose callbacks are signed by it, until their owners "
        f"make new webhook secrets; {invitations} invitations"
    )
    if keys + signing + invitations and not force:
        raise StackError(
            f"The previous pepper is still needed, and would take with it for ever: {left}. `desifre keys list` names "
            "the keys. Have them used or revoke them, or say --force."
        )
    with _stopped(home):
        if keys:
            # Before the pepper goes: keys of which none can work any more would keep the service from starting.
            _ask_keys(home, environ, "unmoved", "--revoke")
        secrets.forget(home.secrets_file, secrets.PREVIOUS_PEPPER)
    print(f"The previous pepper is forgotten; start with {START}.")
    if force:
        print(f"With it went: {left}.")
    return 0


@contextmanager
def _stopped(home: Home) -> Iterator[None]:
    """No stack runs on this home, and none starts meanwhile. Raises StackError.

    One that ran would go on with the peppers of its start, and the operator's commands would take those of the file:
    keys made by the one would be unknown to the other.
    """
    secrets.load(home.secrets_file)  # A home that was never started is not made by this.
    lock = HomeLock(home)
    if (running := lock.holder()) is not None:
        raise StackError(
            f"A stack runs on {home.root} (process {running}), and would not know of the change: `desifre down` first."
        )
    home.prepare()
    lock.take()
    try:
        yield
    finally:
        lock.release()


def _ask_keys(home: Home, environ: Mapping[str, str], *arguments: str) -> str:
    """What a command of `desifre keys` answers. Raises StackError with what it complains of."""
    command, environment = commands.inside(home, environ, "keys-admin", arguments)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"`desifre keys {' '.join(arguments)}` did not do it: {done.stderr.strip()}")
    return done.stdout
