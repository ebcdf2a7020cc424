"""The database: SQLite in one file, or PostgreSQL by URL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

PRAGMAS = {"journal_mode": "WAL", "synchronous": "FULL", "foreign_keys": "ON", "busy_timeout": "5000"}
"""Readers never wait for the writer (WAL); a commit is on the disk before it is answered (FULL)."""


class Store:
    """Reads that see the last commit, and transactions that write."""

    def __init__(self, readers: AsyncEngine, writers: AsyncEngine) -> None:
        self._readers = readers
        self._writers = writers

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which every statement stands alone."""
        async with self._readers.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, undone by an error."""
        async with AsyncSession(self._writers, expire_on_commit=False) as session, session.begin():
            yield session

    async def ping(self) -> None:
        """Raise unless the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Open the database at `url`, made and migrated as needed."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if sqlite and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    autocommit = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    if sqlite:
        readers, writers = create_async_engine(parsed, **autocommit), _sqlite_writer(parsed)
        event.listen(readers.sync_engine, "connect", _set_pragmas)
    else:
        readers = create_async_engine(parsed, pool_pre_ping=True, **autocommit)
        writers = create_async_engine(parsed, pool_pre_ping=True)
    try:
        async with writers.begin() as connection:
            await connection.run_sync(_migrate)
        yield Store(readers, writers)
    finally:
        await readers.dispose()
        await writers.dispose()


def _sqlite_writer(url: URL) -> AsyncEngine:
    """SQLite writes one at a time: a pool of one queues fairly where SQLite itself would poll."""
    engine = create_async_engine(url, pool_size=1, max_overflow=0)
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _set_pragmas(connection: Any, _: object) -> None:
    # The driver's own BEGIN comes late and deferred; ours is sent by `_begin_immediate`.
    connection.isolation_level = None
    cursor = connection.cursor()
    for name, value in PRAGMAS.items():
        cursor.execute(f"PRAGMA {name}={value}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    # Takes the write lock at once: a transaction that reads first and writes later can be refused half-way.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
