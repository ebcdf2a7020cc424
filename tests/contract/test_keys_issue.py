"""Sign-up, invitations and further keys, with a clock that the test turns."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from services.contracts.auth import DEFAULT_SCOPES, CreateKey, KeyRef, Scope
from services.contracts.errors import Code, Problem
from services.keys.tables import Tenant
from tests.contract.keys_support import DAY, HOUR, claims, house

STRANGER = "203.0.113.7"


async def test_equal_names_are_different_tenants(tmp_path: Path) -> None:
    """Two sign-ups with one name get two tenants, and answers that differ in nothing but the random."""
    async with house(tmp_path) as there:
        one, two = await there.sign_up("ayşe"), await there.sign_up("ayşe")
        assert one.tenant != two.tenant
        assert one.model_copy(update={"api_key": "", "key_id": "", "tenant": ""}) == two.model_copy(
            update={"api_key": "", "key_id": "", "tenant": ""}
        )
        assert (await claims(there, one.api_key)).tenant == one.tenant
        assert (await claims(there, two.api_key)).username == "ayşe"


async def test_the_starter_quota_and_the_expiry_are_told(tmp_path: Path) -> None:
    """A new key tells the starter quota (24 h a day, 100 jobs, 4 streams, 20 GiB) and works for a year."""
    async with house(tmp_path) as there:
        made = await there.sign_up()
        assert made.quota.model_dump() == {
            "audio_seconds_per_day": DAY, "unfinished_jobs": 100, "streams": 4, "bytes": 20 << 30,
        }  # fmt: skip
        assert made.expires == there.clock.now + 365 * DAY
        assert made.scopes == DEFAULT_SCOPES


@pytest.mark.parametrize("name", [None, "", "x" * 65, "two\nlines"])
async def test_a_name_that_is_no_label_is_refused(tmp_path: Path, name: str | None) -> None:
    """Sign-up needs a user name of 1 to 64 printable characters."""
    async with house(tmp_path) as there:
        with pytest.raises(Problem) as refused:
            await there.keys.create(CreateKey(username=name, address="127.0.0.1"))
        assert refused.value.code == Code.USERNAME


async def test_sign_ups_of_one_address_are_limited(tmp_path: Path) -> None:
    """After its sign-ups of an hour an address waits, is told how long, and others do not."""
    async with house(tmp_path, signups_per_address=3) as there:
        for _ in range(3):
            await there.sign_up(address=STRANGER)
            there.clock.now += 60
        with pytest.raises(Problem) as refused:
            await there.sign_up(address=STRANGER)
        assert refused.value.code == Code.RATE_LIMIT
        assert refused.value.retry_after == HOUR - 180
        await there.sign_up(address="203.0.113.8")
        there.clock.now += HOUR - 179
        await there.sign_up(address=STRANGER)


async def test_sign_ups_in_all_are_limited_but_for_loopback(tmp_path: Path) -> None:
    """The limit over all addresses holds for everybody who is not on the machine itself, who is not counted."""
    async with house(tmp_path, signups_per_hour=2, signups_per_address=1) as there:
        for _ in range(5):
            await there.sign_up(address="127.0.0.1")
        await there.sign_up(address="203.0.113.1")
        await there.sign_up(address="2001:db8::1")
        with pytest.raises(Problem) as refused:
            await there.sign_up(address="203.0.113.3")
        assert refused.value.code == Code.RATE_LIMIT
        await there.sign_up(address="::1")


async def test_origins_are_forgotten(tmp_path: Path) -> None:
    """What is kept of an address goes once it does not count any more."""
    async with house(tmp_path) as there:
        await there.sign_up(address=STRANGER)
        there.clock.now += HOUR + 1
        await there.sign_up(address="203.0.113.8")
        async with there.store.read() as connection:
            origins = [row[0] for row in await connection.execute(select(Tenant.origin).order_by(Tenant.created))]
        assert origins[0] is None
        assert origins[1] is not None


async def test_closed_sign_up_makes_nothing(tmp_path: Path) -> None:
    """With sign-up closed nobody gets a key but through the operator."""
    async with house(tmp_path, signup="closed") as there:
        with pytest.raises(Problem) as refused:
            await there.sign_up()
        assert refused.value.code == Code.SIGNUP_CLOSED
        made = await there.operator.create("crew", [*DEFAULT_SCOPES, Scope.ADMIN], None)
        assert Scope.ADMIN in (await claims(there, made.api_key)).scopes
        assert made.expires is None


async def test_an_invitation_is_good_for_its_uses(tmp_path: Path) -> None:
    """An invitation lets in as many as it says, also when they come at once; a wrong one lets in nobody."""
    async with house(tmp_path, signup="invite") as there:
        code = await there.operator.invite(2)

        async def come(invite: str | None) -> str:
            try:
                await there.keys.create(CreateKey(username="guest", address="127.0.0.1", invite=invite))
            except Problem as problem:
                return problem.code.value
            return "in"

        assert await come(None) == await come("inv_wrong") == "invite_needed"
        assert sorted(await asyncio.gather(*(come(code) for _ in range(4)))) == ["in", "in", *["invite_needed"] * 2]


async def test_a_refused_sign_up_does_not_use_an_invitation_up(tmp_path: Path) -> None:
    """Whoever is turned away for another reason still has the invitation."""
    async with house(tmp_path, signup="invite") as there:
        code = await there.operator.invite(1)
        with pytest.raises(Problem):
            await there.keys.create(CreateKey(username="", address="127.0.0.1", invite=code))
        await there.keys.create(CreateKey(username="guest", address="127.0.0.1", invite=code))


async def test_a_tenant_has_five_keys_at_most(tmp_path: Path) -> None:
    """A sixth key is refused until one is revoked."""
    async with house(tmp_path) as there:
        first = await there.sign_up()
        for n in range(4):
            await there.keys.create(CreateKey(tenant=first.tenant, by=first.key_id, label=f"no {n}"))
        with pytest.raises(Problem) as refused:
            await there.keys.create(CreateKey(tenant=first.tenant, by=first.key_id))
        assert refused.value.code == Code.TOO_MANY_KEYS
        await there.keys.revoke(KeyRef(tenant=first.tenant, key_id=first.key_id))
        await there.keys.create(CreateKey(tenant=first.tenant, label="no 4"))
        listed = (await there.keys.list_keys(KeyRef(tenant=first.tenant))).keys
        assert {key.label for key in listed if key.revoked is None} == {f"no {n}" for n in range(5)}


async def test_a_key_hands_on_no_more_than_it_may_do(tmp_path: Path) -> None:
    """A key that lacks a scope can neither make a key with it nor take over one by rotating it."""
    async with house(tmp_path) as there:
        full = await there.sign_up()
        weak = await there.keys.create(
            CreateKey(tenant=full.tenant, by=full.key_id, scopes=(Scope.READ, Scope.KEYS), label="weak")
        )
        assert weak.scopes == (Scope.READ, Scope.KEYS)
        attempts = [
            there.keys.create(CreateKey(tenant=full.tenant, by=weak.key_id, scopes=(Scope.SUBMIT,))),
            there.keys.create(CreateKey(tenant=full.tenant, by=full.key_id, scopes=(Scope.ADMIN,))),
            there.keys.create(CreateKey(username="me", address="127.0.0.1", scopes=(Scope.ADMIN,))),
            there.keys.rotate(KeyRef(tenant=full.tenant, by=weak.key_id, key_id=full.key_id)),
        ]
        for attempt in attempts:
            with pytest.raises(Problem) as refused:
                await attempt
            assert refused.value.code == Code.SCOPE
        heir = await there.keys.create(CreateKey(tenant=full.tenant, by=weak.key_id))
        assert heir.scopes == (Scope.READ, Scope.KEYS)
