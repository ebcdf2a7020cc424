"""The keys service for the tests of its parts: a real SQLite file and a clock that the test turns."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from services.contracts.auth import Claims, CreateKey, NewKey, Verify, fingerprint
from services.contracts.errors import Problem
from services.keys.ledger import Ledger
from services.keys.operator import Operator
from services.keys.service import KeyService
from services.keys.settings import KeysSettings
from services.keys.store import Store, open_store
from services.keys.tables import Audit
from services.keys.verify import Verifier
from services.keys.webhooks import Webhooks
from services.runtime.metrics import Metrics

PEPPER = "pepper-of-the-tests-long-enough-to-be-one"
HOUR, DAY = 3600.0, 86_400.0
NOON = 1_900_000_800.0 - 1_900_000_800.0 % 86_400 + 43_200
"""Some day at 12:00 UTC."""


@dataclass
class Clock:
    """Unix seconds, moved by hand."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """The parts of keys on one database."""

    settings: KeysSettings
    store: Store
    clock: Clock
    revoked: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        async def announce(key_id: str) -> None:
            self.revoked.append(key_id)

        issued = self.metrics.counter("keys_issued", "t", ["how"])
        verdicts = self.metrics.counter("keys_verifications", "t", ["verdict"])
        peppers = self.settings.peppers
        self.keys = KeyService(self.store, peppers, self.settings, announce, issued, self.clock)
        self.verifier = Verifier(self.store, peppers, self.settings.starter_quota, verdicts, self.clock)
        self.webhooks = Webhooks(self.store, peppers, self.settings, self.clock)
        self.operator = Operator(self.store, peppers, self.settings, self.clock)
        self.ledger = Ledger(self.store, self.settings.starter_quota, self.clock)

    async def sign_up(self, username: str = "somebody", address: str = "127.0.0.1") -> NewKey:
        return await self.keys.create(CreateKey(username=username, address=address))

    async def works(self, api_key: str) -> bool:
        """Whether the key is verified."""
        try:
            await self.verifier.verify(Verify(fingerprint=fingerprint(api_key)))
        except Problem:
            return False
        return True


def settings_for(folder: Path, **more: object) -> KeysSettings:
    url = f"sqlite+aiosqlite:///{folder / 'keys' / 'keys.db'}"
    values: dict[str, object] = {"home": folder, "keys_database_url": url, "keys_pepper": PEPPER}
    return KeysSettings(**(values | more))  # type: ignore[arg-type]


@asynccontextmanager
async def house(folder: Path, clock: Clock | None = None, **more: object) -> AsyncIterator[House]:
    settings = settings_for(folder, **more)
    async with open_store(settings.keys_database_url) as store:
        yield House(settings, store, clock or Clock())


async def claims(there: House, api_key: str) -> Claims:
    """Who the key says that its holder is."""
    return await there.verifier.verify(Verify(fingerprint=fingerprint(api_key)))


async def audit(there: House) -> list[tuple[str, str | None]]:
    """What was written down, in order: the event and its key."""
    async with there.store.read() as connection:
        rows = await connection.execute(select(Audit.event, Audit.key_id).order_by(Audit.seq))
        return [(row[0], row[1]) for row in rows]
