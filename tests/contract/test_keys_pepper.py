"""A new pepper of the keys by the operator's command, on the launcher's own home."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.stack import Stack, secrets
from infra.stack.__main__ import main
from infra.stack.home import Home
from services.contracts import subjects
from services.contracts.auth import Claims, CreateKey, KeyRef, NewKey, Verify, fingerprint
from services.contracts.errors import Problem
from services.keys.admin import commands
from services.runtime.bus import Bus, connect_bus
from tests.contract.keys_support import DAY, PEPPER, Clock, House, audit, house, settings_for
from tests.support import operator_of

NEW = "the-pepper-of-this-year-long-enough-to-be-one"


Pepper = Callable[..., tuple[int, str]]
"""`desifre pepper …` on the home of the test: its exit code, and what it says."""


@pytest.fixture
def pepper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Pepper:
    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("DESIFRE_HOME", str(tmp_path))
        code = main(["pepper", *arguments])
        return code, "".join(capsys.readouterr())

    return command


async def test_a_new_pepper_costs_no_key_that_is_used(tmp_path: Path, pepper: Pepper) -> None:
    """Keys that are used move over; the old pepper goes when all have, or by force, and then with the others."""
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        used, idle = [await bus.request(subjects.KEYS_CREATE, CreateKey(username=name), NewKey) for name in "ab"]
        # The service would go on with the old pepper, and the operator's commands would take the new one.
        assert_refused(pepper(), "`desifre down` first")
    assert "desifre pepper --forget" in pepper()[1]
    assert pepper()[0] == 1  # two at a time
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        assert (await verified(bus, used)).tenant == used.tenant
        assert_refused(pepper("--forget", "--force"), "`desifre down` first")
        new = stack.wiring.secrets["keys.pepper"]
    assert_refused(pepper("--forget"), "for ever: 1 keys that have not moved over; 0 keys")
    assert pepper("--forget", "--force")[0] == 0
    known = secrets.load(Home(tmp_path).secrets_file)
    assert (known["keys.pepper"], known.get("keys.pepper.previous")) == (new, None)
    assert "`desifre pepper` makes a new one" in pepper("--forget")[1]
    # Another one that is thrown away before anybody used a key: of the two there were, one had moved over.
    assert pepper()[0] == 0
    assert "With it went: 1 keys" in pepper("--forget", "--force")[1]
    async with standing(tmp_path) as stack, connect_bus(operator_of(stack)) as bus:
        for made in (used, idle):
            with pytest.raises(Problem):
                await verified(bus, made)


async def test_what_never_moves_over_is_counted(tmp_path: Path) -> None:
    """Webhook secrets that sign and invitations that are good keep the previous pepper; what has ended does not."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        key, ended = await there.sign_up(), await there.sign_up()
        for one in (key, ended):
            await there.webhooks.rotate(KeyRef(tenant=one.tenant, key_id=one.key_id))
        await there.operator.invite(2)
        assert await counted(there) == (set(), 0)
    async with house(tmp_path, clock, keys_pepper=NEW, keys_pepper_previous=PEPPER, signup="invite") as there:
        assert await counted(there) == ({key.key_id, ended.key_id}, 1)
        assert await asked(tmp_path, "unmoved") == "2 2 1\n"
        assert (await asked(tmp_path, "list")).count(", previous pepper, webhook secret of the previous pepper\n") == 2
        await there.keys.revoke(KeyRef(tenant=ended.tenant, key_id=ended.key_id))
        await there.operator.invite(1)
        await there.webhooks.rotate(KeyRef(tenant=key.tenant, key_id=key.key_id))
        assert await counted(there) == ({key.key_id}, 1)
        clock.now += DAY + 1  # the secret before the new one signs no more
        assert await counted(there) == (set(), 1)
    async with house(tmp_path, clock, keys_pepper=NEW) as there:
        assert await counted(there) == (set(), 0)  # gone already: nothing is lost by forgetting another pepper


async def test_keys_that_end_by_force_are_revoked(tmp_path: Path) -> None:
    """Each leaves its line in the audit, and those that moved over or had ended are left alone."""
    async with house(tmp_path) as there:
        idle, used, ended = [await there.sign_up() for _ in range(3)]
        await there.keys.revoke(KeyRef(tenant=ended.tenant, key_id=ended.key_id))
    async with house(tmp_path, keys_pepper=NEW, keys_pepper_previous=PEPPER) as there:
        assert await there.works(used.api_key)
        await there.verifier.flush()
        before = await audit(there)
        assert await there.operator.revoke_unmoved() == 1
        assert await audit(there) == [*before, ("revoke", idle.key_id)]
        assert await there.works(used.api_key)
        assert set(await there.operator.by_pepper()) == {there.settings.peppers.current.version}


async def counted(there: House) -> tuple[set[str], int]:
    """Keys that sign by the previous pepper, and invitations."""
    return await there.operator.signing_by_previous(), await there.operator.invited_by_previous()


async def asked(home: Path, command: str) -> str:
    """What a command of `desifre keys` says, under the new pepper and the previous one."""
    env = {
        "DESIFRE_KEYS_DATABASE_URL": settings_for(home).keys_database_url,
        "DESIFRE_KEYS_PEPPER": NEW,
        "DESIFRE_KEYS_PEPPER_PREVIOUS": PEPPER,
    }
    return (await asyncio.to_thread(CliRunner().invoke, commands, [command], env=env)).stdout


def assert_refused(done: tuple[int, str], why: str) -> None:
    """A command ended with 1 and said this."""
    assert done[0] == 1
    assert why in done[1]


@asynccontextmanager
async def standing(home: Path) -> AsyncIterator[Stack]:
    """The keys service on its bus, by the launcher, which leaves it all the time it takes to write what it knows."""
    async with Stack(home, services=["nats", "keys"]) as stack:
        keys = stack.process("keys")
        keys.spec = replace(keys.spec, stop_grace=60.0)
        yield stack


async def verified(bus: Bus, made: NewKey) -> Claims:
    """Who the key is, as keys says."""
    return await bus.request(subjects.KEYS_VERIFY, Verify(fingerprint=fingerprint(made.api_key)), Claims)
