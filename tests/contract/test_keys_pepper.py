"""A new pepper of the keys by the operator's command, on the launcher's own home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import Claims, CreateKey, NewKey, Verify, fingerprint
from services.contracts.errors import Problem
from services.runtime.bus import Bus, connect_bus
from tests.support import operator_of


async def test_a_new_pepper_costs_no_key_that_is_used(tmp_path: Path) -> None:
    """Keys that are used move over; the old pepper goes when all have, or by force, and then with the others."""
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        used, idle = [await bus.request(subjects.KEYS_CREATE, CreateKey(username=name), NewKey) for name in "ab"]
    assert "desifre pepper --forget" in pepper(tmp_path)[1]
    assert pepper(tmp_path)[0] == 1  # two at a time
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        assert (await verified(bus, used)).tenant == used.tenant
    code, told = pepper(tmp_path, "--forget")
    assert code == 1
    assert told.startswith("desifre: 1 keys have not moved over yet")
    assert pepper(tmp_path, "--forget", "--force")[0] == 0
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        assert (await verified(bus, used)).tenant == used.tenant
        with pytest.raises(Problem):
            await verified(bus, idle)
    assert "`desifre pepper` makes a new one" in pepper(tmp_path, "--forget")[1]


def standing(home: Path) -> Stack:
    """The keys service on its bus, by the launcher."""
    return Stack(home, services=["nats", "keys"])


async def verified(bus: Bus, made: NewKey) -> Claims:
    """Who the key is, as keys says."""
    return await bus.request(subjects.KEYS_VERIFY, Verify(fingerprint=fingerprint(made.api_key)), Claims)


def pepper(home: Path, *arguments: str) -> tuple[int, str]:
    """Exit code of `desifre pepper …`, and what it says."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", "pepper", *arguments],
        env={**os.environ, "DESIFRE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
