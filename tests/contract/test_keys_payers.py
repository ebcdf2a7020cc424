"""Which key pays for a tenant's part of the bucket `drop`, with a clock that the test turns."""

from pathlib import Path

import pytest

from services.contracts.auth import NO_KEY_PAYS, Claims, CreateKey, KeyRef, NewKey, Payer, Scope, SetCallback
from services.contracts.errors import Code, Problem
from services.keys.payers import Payers
from tests.contract.keys_support import Clock, House, house


def payers(there: House) -> Payers:
    return Payers(there.store, there.settings.peppers, there.settings, there.verifier.used, there.clock)


async def paying(there: House, key: NewKey) -> Claims:
    return await payers(there).claims(Payer(tenant=key.tenant))


async def another(there: House, key: NewKey, *scopes: Scope, expires_in: float | None = None) -> NewKey:
    return await there.keys.create(CreateKey(tenant=key.tenant, scopes=scopes or None, expires_in=expires_in))


async def refused(there: House, key: NewKey, key_id: str | None = None) -> tuple[Code, str]:
    with pytest.raises(Problem) as problem:
        await payers(there).name(key.tenant, key_id)
    return problem.value.code, problem.value.detail or ""


async def test_a_tenants_only_key_pays_by_default(tmp_path: Path) -> None:
    """One key in use is taken without being named; of several one has to be, and the one that pays goes on."""
    async with house(tmp_path) as there:
        first = await there.sign_up()
        assert await payers(there).name(first.tenant) == first.key_id
        second = await another(there, first)
        assert await payers(there).name(first.tenant) == first.key_id
        await payers(there).forget(first.tenant)
        code, detail = await refused(there, first)
        assert (code, first.key_id in detail, second.key_id in detail) == (Code.KEY_NOT_FOUND, True, True)
        assert await payers(there).name(first.tenant, second.key_id) == second.key_id
        assert await payers(there).every() == [(first.tenant, second.key_id, True)]


async def test_the_paying_keys_name_scopes_and_callback_are_the_jobs(tmp_path: Path) -> None:
    """What keys says of the payer is what it says of a key that is shown; where none was named, the tenant pays."""
    async with house(tmp_path) as there:
        key = await there.sign_up("crew")
        claims = await paying(there, key)
        assert (claims.tenant, claims.key_id, claims.scopes) == (key.tenant, NO_KEY_PAYS, (Scope.SUBMIT,))
        await there.webhooks.set_callback(SetCallback(tenant=key.tenant, key_id=key.key_id, url="https://example.com/"))
        await payers(there).name(key.tenant)
        claims = await paying(there, key)
        assert (claims.key_id, claims.username, claims.scopes) == (key.key_id, "crew", key.scopes)
        assert (claims.callback_url, claims.expires) == ("https://example.com/", key.expires)
        await there.verifier.flush()
        [shown] = (await there.keys.list_keys(KeyRef(tenant=key.tenant))).keys
        assert shown.last_used is not None


async def test_no_other_key_can_be_named(tmp_path: Path) -> None:
    """Neither another tenant's, nor one that may not submit, nor one that has ended; nor for a tenant unknown."""
    async with house(tmp_path) as there:
        key, stranger = await there.sign_up(), await there.sign_up()
        reader = await another(there, key, Scope.READ)
        ended = await another(there, key)
        await there.keys.revoke(KeyRef(tenant=key.tenant, key_id=ended.key_id))
        for key_id in (stranger.key_id, ended.key_id, "neverwas"):
            code, detail = await refused(there, key, key_id)
            assert (code, detail) == (
                Code.KEY_NOT_FOUND,
                f"The tenant has no such key that works. In use: {key.key_id}.",
            )
        assert (await refused(there, key, reader.key_id))[0] == Code.SCOPE
        assert (await paying(there, key)).key_id == NO_KEY_PAYS
        with pytest.raises(Problem) as unknown:
            await payers(there).claims(Payer(tenant="nobody0000000000"))
        assert unknown.value.code == Code.WRONG_KEY


async def test_the_key_that_follows_a_rotated_one_pays_in_its_place(tmp_path: Path) -> None:
    """Nothing has to be bound anew when a key is rotated, and the old one may end."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        old = await there.sign_up()
        await payers(there).name(old.tenant)
        new = await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id))
        clock.now += there.settings.rotation_overlap + 1
        assert (await paying(there, old)).key_id == new.key_id


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_key_that_has_ended_pays_for_nothing(tmp_path: Path, how: str) -> None:
    """Keys says which one it was and why; another one that is named pays from then on."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        first = await there.sign_up()
        paid = await another(there, first, expires_in=3600)
        await payers(there).name(first.tenant, paid.key_id)
        if how == "revoked":
            await there.keys.revoke(KeyRef(tenant=first.tenant, key_id=paid.key_id))
        else:
            clock.now += 3601
        with pytest.raises(Problem) as problem:
            await paying(there, first)
        assert problem.value.code == Code.DROP_KEY
        assert paid.key_id in (problem.value.detail or "")
        assert how in (problem.value.detail or "")
        assert await payers(there).every() == [(first.tenant, paid.key_id, False)]
        assert await payers(there).name(first.tenant) == first.key_id
        assert (await paying(there, first)).key_id == first.key_id
