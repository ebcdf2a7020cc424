"""The database of keys, on a real SQLite file."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, select, text
from sqlalchemy.exc import DBAPIError

from services.keys.store import open_store
from services.keys.tables import Audit, Base, Tenant
from tests.contract.keys_support import house, settings_for


def url(folder: Path) -> str:
    return settings_for(folder).keys_database_url


async def test_tables_are_made_from_nothing_and_only_once(tmp_path: Path) -> None:
    """The first start makes the tables that the code speaks of, and a second one changes nothing."""
    for _ in range(2):
        async with open_store(url(tmp_path)) as store:
            await store.ping()
    engine = create_engine(f"sqlite:///{tmp_path / 'keys' / 'keys.db'}")
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        assert differences(connection) == []
    engine.dispose()


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata))


async def test_what_was_committed_is_there_at_the_next_start(tmp_path: Path) -> None:
    """A key made before a restart works after it."""
    async with house(tmp_path) as first:
        made = await first.sign_up()
    async with house(tmp_path) as second:
        assert await second.works(made.api_key)


async def test_an_error_undoes_the_transaction(tmp_path: Path) -> None:
    """Nothing of a transaction that fails half-way is kept."""
    async with open_store(url(tmp_path)) as store:

        async def half() -> None:
            async with store.write() as session:
                session.add(Tenant(id="t" * 16, username="x", created=0.0, unfinished=0, bytes=0))
                await session.flush()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await half()
        async with store.read() as connection:
            assert (await connection.execute(select(Tenant.id))).all() == []


async def test_writers_of_two_processes_wait_for_each_other(tmp_path: Path) -> None:
    """Many transactions that read and then write, through two connections, all succeed and none is lost."""
    async with open_store(url(tmp_path)) as one, open_store(url(tmp_path)) as two:
        async with one.write() as session:
            session.add(Tenant(id="t" * 16, username="x", created=0.0, unfinished=0, bytes=0))

        async def add(n: int) -> None:
            async with (one if n % 2 else two).write() as session:
                tenant = await session.get(Tenant, "t" * 16, with_for_update=True)
                assert tenant is not None
                tenant.bytes += n

        await asyncio.gather(*(add(n) for n in range(40)))
        async with one.read() as connection:
            assert (await connection.execute(select(Tenant.bytes))).scalar() == sum(range(40))


async def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    """While a transaction is open, reads are answered and see the last commit."""
    async with house(tmp_path) as there:
        made = await there.sign_up()
        async with there.store.write() as session:
            session.add(Audit(at=0.0, event="open", tenant=None, key_id=None, detail=""))
            await session.flush()
            assert await asyncio.wait_for(there.works(made.api_key), 60)


@pytest.mark.parametrize("statement", ["UPDATE audit SET event = 'x'", "DELETE FROM audit"])
async def test_the_audit_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    """The database itself refuses to change or remove a line of the audit."""
    async with house(tmp_path) as there:
        await there.sign_up()
        with pytest.raises(DBAPIError, match="append-only"):
            async with there.store.write() as session:
                await session.execute(text(statement))


async def test_the_file_holds_no_key_and_no_address(tmp_path: Path) -> None:
    """Neither a key nor its fingerprint nor the address of a sign-up is anywhere in the database files."""
    async with house(tmp_path) as there:
        made = await there.sign_up(address="203.0.113.77")
    secret = made.api_key.split("_")[3]
    for file in (tmp_path / "keys").iterdir():
        raw = file.read_bytes()
        assert secret.encode() not in raw
        assert b"203.0.113.77" not in raw


async def test_commits_are_synced_and_the_log_is_written_ahead(tmp_path: Path) -> None:
    """The file is in WAL mode, and every connection of ours syncs each commit and checks foreign keys."""
    async with open_store(url(tmp_path)) as store:
        async with store.write() as session:
            found = [
                (await session.execute(text(f"PRAGMA {name}"))).scalar() for name in ("synchronous", "foreign_keys")
            ]
        assert found == [2, 1]
        with sqlite3.connect(tmp_path / "keys" / "keys.db") as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.close()
