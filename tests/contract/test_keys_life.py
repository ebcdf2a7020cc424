"""Expiry, rotation, revocation, last use, import and peppers of keys, with a clock that the test turns."""

from pathlib import Path

import pytest
from sqlalchemy import select

from services.contracts.auth import CreateKey, KeyRef
from services.contracts.errors import Code, Problem
from services.keys.operator import OldUser
from services.keys.tables import Key
from tests.contract.keys_support import DAY, HOUR, Clock, audit, claims, house


async def test_a_key_expires(tmp_path: Path) -> None:
    """A key works until the second it expires, and says then why it does not."""
    async with house(tmp_path) as there:
        first = await there.sign_up()
        short = await there.keys.create(CreateKey(tenant=first.tenant, expires_in=100))
        there.clock.now += 99
        assert await there.works(short.api_key)
        there.clock.now += 1
        with pytest.raises(Problem) as refused:
            await claims(there, short.api_key)
        assert (refused.value.code, refused.value.detail) == (Code.WRONG_KEY, "The key has expired.")


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e12, float("nan")])
async def test_a_lifetime_has_bounds(tmp_path: Path, seconds: float) -> None:
    """A lifetime of nothing, less, too much or no number is refused."""
    async with house(tmp_path) as there:
        first = await there.sign_up()
        with pytest.raises(Problem) as refused:
            await there.keys.create(CreateKey(tenant=first.tenant, expires_in=seconds))
        assert refused.value.code == Code.MALFORMED


async def test_both_keys_work_during_a_rotation(tmp_path: Path) -> None:
    """After a rotation the old key works for a day, marked as deprecated, and the new one for a year."""
    async with house(tmp_path) as there:
        old = await there.sign_up()
        new = await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id, by=old.key_id))
        assert new.tenant == old.tenant
        assert (await claims(there, old.api_key)).deprecated
        assert not (await claims(there, new.api_key)).deprecated
        there.clock.now += DAY
        assert not await there.works(old.api_key)
        assert await there.works(new.api_key)


async def test_an_overlap_of_nothing_ends_the_old_key_at_once(tmp_path: Path) -> None:
    """A rotation without overlap announces the end of the old key; more than a week is refused."""
    async with house(tmp_path) as there:
        old = await there.sign_up()
        with pytest.raises(Problem) as refused:
            await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id, overlap=7 * DAY + 1))
        assert refused.value.code == Code.MALFORMED
        await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id, overlap=0))
        assert there.revoked == [old.key_id]
        assert not await there.works(old.api_key)


async def test_a_second_rotation_never_lengthens_the_overlap(tmp_path: Path) -> None:
    """A key whose rotation was answered into the void can be rotated again and still ends when it was going to."""
    async with house(tmp_path) as there:
        old = await there.sign_up()
        await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id))
        there.clock.now += HOUR
        await there.keys.rotate(KeyRef(tenant=old.tenant, key_id=old.key_id))
        assert (await claims(there, old.api_key)).expires == there.clock.now - HOUR + DAY


async def test_rotating_without_end_is_refused(tmp_path: Path) -> None:
    """However often a tenant rotates, it never holds more than twice its keys."""
    async with house(tmp_path) as there:
        made = await there.sign_up()
        for _ in range(9):
            made = await there.keys.rotate(KeyRef(tenant=made.tenant, key_id=made.key_id))
        with pytest.raises(Problem) as refused:
            await there.keys.rotate(KeyRef(tenant=made.tenant, key_id=made.key_id))
        assert refused.value.code == Code.TOO_MANY_KEYS
        assert len((await there.keys.list_keys(KeyRef(tenant=made.tenant))).keys) == 10


async def test_making_and_revoking_without_end_is_refused(tmp_path: Path) -> None:
    """A tenant makes thirty keys an hour at most, and goes on an hour later."""
    async with house(tmp_path) as there:
        first = await there.sign_up()

        async def churn() -> None:
            made = await there.keys.create(CreateKey(tenant=first.tenant))
            await there.keys.revoke(KeyRef(tenant=first.tenant, key_id=made.key_id))

        for _ in range(29):
            await churn()
        with pytest.raises(Problem) as refused:
            await churn()
        assert refused.value.code == Code.RATE_LIMIT
        there.clock.now += HOUR + 1
        await churn()


async def test_revocation_is_at_once_and_for_good(tmp_path: Path) -> None:
    """A revoked key is refused from then on; revoking again is the same answer and another announcement."""
    async with house(tmp_path) as there:
        made = await there.sign_up()
        ref = KeyRef(tenant=made.tenant, key_id=made.key_id)
        one = await there.keys.revoke(ref)
        there.clock.now += 5
        assert await there.keys.revoke(ref) == one
        assert there.revoked == [made.key_id] * 2
        with pytest.raises(Problem) as refused:
            await claims(there, made.api_key)
        assert (refused.value.code, refused.value.detail) == (Code.WRONG_KEY, "The key was revoked.")
        assert [event for event, _ in await audit(there)] == ["sign_up", "revoke"]


@pytest.mark.parametrize("action", ["revoke", "rotate"])
async def test_keys_of_others_are_not_there(tmp_path: Path, action: str) -> None:
    """Another tenant's key and a key that never was get the same refusal, and nothing happens to it."""
    async with house(tmp_path) as there:
        mine, theirs = await there.sign_up(), await there.sign_up()
        details = []
        for key_id in (theirs.key_id, "neverwas", None):
            with pytest.raises(Problem) as refused:
                await getattr(there.keys, action)(KeyRef(tenant=mine.tenant, key_id=key_id))
            details.append((refused.value.code, refused.value.detail))
        assert details == [(Code.KEY_NOT_FOUND, None)] * 3
        assert await there.works(theirs.api_key)
        assert there.revoked == []


async def test_the_list_shows_one_tenants_keys_and_when_they_were_used(tmp_path: Path) -> None:
    """A list holds the tenant's keys alone, with the minute of last use, and loses ended ones after a month."""
    async with house(tmp_path) as there:
        mine = await there.sign_up()
        await there.sign_up()
        extra = await there.keys.create(CreateKey(tenant=mine.tenant, label="laptop"))
        await there.keys.revoke(KeyRef(tenant=mine.tenant, key_id=extra.key_id))
        there.clock.now += 90
        await claims(there, mine.api_key)
        await there.verifier.flush()
        listed = {key.key_id: key for key in (await there.keys.list_keys(KeyRef(tenant=mine.tenant))).keys}
        assert set(listed) == {mine.key_id, extra.key_id}
        assert listed[mine.key_id].last_used == there.clock.now // 60 * 60
        assert listed[extra.key_id].label == "laptop"
        assert listed[extra.key_id].last_used is None
        there.clock.now += 31 * DAY
        assert [key.key_id for key in (await there.keys.list_keys(KeyRef(tenant=mine.tenant))).keys] == [mine.key_id]


async def test_keys_of_the_old_service_go_on_working(tmp_path: Path) -> None:
    """Each importable row becomes a tenant whose key works and never expires; a second import changes nothing."""
    rows = [
        OldUser("mehmet", "tk_0123456789abcdef"),
        OldUser("mehmet", "tk_fedcba9876543210"),
        OldUser("odd\nname", "tk_aaaaaaaaaaaaaaaa"),
        OldUser("", "tk_bbbbbbbbbbbbbbbb"),
        OldUser("nobody", "not a key"),
    ]
    async with house(tmp_path) as there:
        assert await there.operator.take_over(rows) == (4, 0, 1)
        assert await there.operator.take_over(rows) == (0, 4, 1)
        found = [await claims(there, row.api_key) for row in rows[:4]]
        assert [claim.username for claim in found] == ["mehmet", "mehmet", "oddname", "imported"]
        assert len({claim.tenant for claim in found}) == 4
        assert {claim.expires for claim in found} == {None}
        assert not await there.works("tk_cccccccccccccccc")


async def test_a_pepper_can_be_changed_under_way(tmp_path: Path) -> None:
    """Under a new pepper keys of the previous one go on working, move over when used, and then need it no more."""
    new = "the-pepper-of-this-year-long-enough-to-be-one"
    async with house(tmp_path) as there:
        used, idle = await there.sign_up(), await there.sign_up()
        old = there.settings.keys_pepper
    async with house(tmp_path, keys_pepper=new, keys_pepper_previous=old) as there:
        assert await there.works(used.api_key)
        await there.verifier.flush()
        assert await there.works(used.api_key)
    async with house(tmp_path, keys_pepper=new) as there:
        assert await there.works(used.api_key)
        assert not await there.works(idle.api_key)


async def test_the_last_use_is_written_later_and_never_backwards(tmp_path: Path) -> None:
    """Verification itself writes nothing; a flush writes the minute, and an older one never replaces a newer."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        made = await there.sign_up()

        async def last_used() -> float | None:
            async with there.store.read() as connection:
                return (await connection.execute(select(Key.last_used))).scalar()

        await there.works(made.api_key)
        assert await last_used() is None
        await there.verifier.flush()
        assert await last_used() == clock.now // 60 * 60
        clock.now -= 600
        await there.works(made.api_key)
        await there.verifier.flush()
        assert await last_used() == (clock.now + 600) // 60 * 60
