"""Callback addresses and webhook secrets of keys, with a clock that the test turns."""

import base64
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, inspect

import services.keys
from services.contracts.auth import Claims, CreateKey, KeyRef, NewKey, Scope, SetCallback, Verify, fingerprint
from services.contracts.errors import Code, Problem
from tests.contract.keys_support import Clock, House, house

DAY = 86_400.0
OTHER = "another-pepper-of-the-tests-long-enough-to-be"


def ref(key: NewKey, key_id: str | None = None) -> KeyRef:
    return KeyRef(tenant=key.tenant, key_id=key_id or key.key_id)


async def made(there: House, key: NewKey) -> str:
    return (await there.webhooks.rotate(ref(key))).secret


async def signing(there: House, key: NewKey, key_id: str | None = None) -> tuple[str, ...]:
    return (await there.webhooks.secrets(ref(key, key_id))).secrets


async def test_a_secret_is_one_of_standard_webhooks_and_is_kept_nowhere(tmp_path: Path) -> None:
    """`whsec_` and 32 random bytes, which no byte of the database gives away."""
    async with house(tmp_path) as there:
        one, two = await there.sign_up(), await there.sign_up()
        found = [await made(there, one), await made(there, two)]
        raw = [base64.b64decode(secret.removeprefix("whsec_")) for secret in found]
        assert [len(secret) for secret in raw] == [32, 32]
        assert raw[0] != raw[1]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "keys").iterdir())
    for secret, text in zip(raw, found, strict=True):
        assert secret not in stored
        assert secret.hex().encode() not in stored
        assert text.removeprefix("whsec_").encode() not in stored


async def test_the_old_secret_signs_beside_the_new_one_for_a_day(tmp_path: Path) -> None:
    """The newest comes first, and after the overlap it is alone."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        key = await there.sign_up()
        first = await made(there, key)
        rotated = await there.webhooks.rotate(ref(key))
        assert rotated.old_until == clock.now + DAY
        assert await signing(there, key) == (rotated.secret, first)
        clock.now += DAY - 1
        assert await signing(there, key) == (rotated.secret, first)
        clock.now += 2
        assert await signing(there, key) == (rotated.secret,)


async def test_a_rotation_that_was_answered_into_the_void_loses_nothing(tmp_path: Path) -> None:
    """Rotating again and again keeps the last four signing, and never lengthens the time of an old one."""
    clock = Clock()
    async with house(tmp_path, clock) as there:
        key = await there.sign_up()
        found = []
        for _ in range(6):
            found.append(await made(there, key))
            clock.now += 60
        assert await signing(there, key) == tuple(reversed(found[2:]))
        clock.now += DAY - 3 * 60
        assert await signing(there, key) == tuple(reversed(found[3:]))


async def test_no_callback_goes_out_unsigned(tmp_path: Path) -> None:
    """A key that never made a secret signs with one of its own that nobody was shown, always the same."""
    async with house(tmp_path) as there:
        one, two = await there.sign_up(), await there.sign_up()
        assert await signing(there, one) == await signing(there, one) != await signing(there, two)
        assert await made(there, one) not in await signing(there, two)


async def test_a_job_without_a_key_is_signed_for_every_key_of_its_tenant(tmp_path: Path) -> None:
    """What came in through the bucket carries a signature for each of the tenant's keys, and for nobody else's."""
    async with house(tmp_path) as there:
        one, stranger = await there.sign_up(), await there.sign_up()
        two = await there.keys.create(CreateKey(tenant=one.tenant, scopes=(Scope.READ,)))
        await made(there, stranger)
        assert len(await signing(there, one, "drop")) == 1
        found = {await made(there, one), await made(there, two)}
        assert set(await signing(there, one, "drop")) == found
        assert set(await signing(there, one, stranger.key_id)) == found
        await there.keys.revoke(ref(two))
        assert len(await signing(there, one, "drop")) == 1


async def test_receivers_do_not_notice_that_a_key_was_rotated(tmp_path: Path) -> None:
    """The key that follows calls back to the same place, signed with the same secrets."""
    async with house(tmp_path) as there:
        key = await there.sign_up()
        secret = await made(there, key)
        await there.webhooks.set_callback(SetCallback(tenant=key.tenant, key_id=key.key_id, url="https://example.com/"))
        new = await there.keys.rotate(ref(key))
        assert await signing(there, new) == (secret,)
        assert await signing(there, new, "drop") == (secret,)
        assert (await claims(there, new)).callback_url == "https://example.com/"
        listed = (await there.keys.list_keys(KeyRef(tenant=key.tenant))).keys
        assert {one.callback_url for one in listed} == {"https://example.com/"}


async def claims(there: House, key: NewKey) -> Claims:
    return await there.verifier.verify(Verify(fingerprint=fingerprint(key.api_key)))


async def test_an_address_is_set_and_removed(tmp_path: Path) -> None:
    """A key's own address travels with its verification until it is removed."""
    async with house(tmp_path) as there:
        key = await there.sign_up()
        for url in ("https://example.com/", None):
            told = await there.webhooks.set_callback(SetCallback(tenant=key.tenant, key_id=key.key_id, url=url))
            assert told.callback_url == url
            assert (await claims(there, key)).callback_url == url


async def test_anothers_key_is_none(tmp_path: Path) -> None:
    """Nobody sets the address or makes a secret of a key that is not his."""
    async with house(tmp_path) as there:
        key, stranger = await there.sign_up(), await there.sign_up()
        with pytest.raises(Problem) as refused:
            await there.webhooks.rotate(KeyRef(tenant=stranger.tenant, key_id=key.key_id))
        assert refused.value.code == Code.KEY_NOT_FOUND
        with pytest.raises(Problem) as refused:
            await there.webhooks.set_callback(SetCallback(tenant=stranger.tenant, key_id=key.key_id, url=None))
        assert refused.value.code == Code.KEY_NOT_FOUND


async def test_secrets_survive_a_new_pepper_while_the_old_one_is_known(tmp_path: Path) -> None:
    """Under a new pepper the old secret signs as long as the pepper before is given; then nothing does, rather than
    something that no receiver knows."""
    async with house(tmp_path) as there:
        key = await there.sign_up()
        secret = await made(there, key)
    async with house(tmp_path, keys_pepper=OTHER, keys_pepper_previous=there.settings.keys_pepper) as later:
        assert await signing(later, key) == (secret,)
    async with house(tmp_path, keys_pepper=OTHER) as much_later:
        assert await signing(much_later, key) == ()
        fresh = await made(much_later, key)
        assert await signing(much_later, key) == (fresh,)


async def test_a_database_of_the_first_version_is_taken_further(tmp_path: Path) -> None:
    """A database with keys in it gets the new column and table, and its keys go on working."""
    (tmp_path / "keys").mkdir()
    engine = create_engine(f"sqlite:///{tmp_path / 'keys' / 'keys.db'}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(services.keys.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.connect() as connection:
        assert "webhook_secrets" not in inspect(connection).get_table_names()
    engine.dispose()
    async with house(tmp_path) as there:
        key = await there.sign_up()
        assert await signing(there, key)
