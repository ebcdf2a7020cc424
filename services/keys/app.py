"""The composition root of keys."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.contracts import subjects
from services.contracts.auth import (
    Admit,
    CreateKey,
    KeyRef,
    Payer,
    Reserve,
    Revoked,
    SetCallback,
    UsageRequest,
    Verify,
)
from services.contracts.jobs import Frozen
from services.keys.ledger import Ledger
from services.keys.operator import Operator
from services.keys.payers import Payers
from services.keys.service import KeyService
from services.keys.settings import KeysSettings
from services.keys.settle import settler
from services.keys.store import open_store
from services.keys.tokens import Peppers
from services.keys.verify import Verifier
from services.keys.webhooks import Webhooks
from services.runtime.bus import Handler, connect_bus
from services.runtime.health import Health, ops_server
from services.runtime.lifecycle import Life, Tasks
from services.runtime.logs import get_logger
from services.runtime.metrics import Metrics
from services.runtime.patience import START, until_there
from services.runtime.settings import BadSettings

LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class LostPepper(BadSettings):
    """Every key in the database was made under a pepper that this process was not given."""


@asynccontextmanager
async def app(settings: KeysSettings, life: Life) -> AsyncIterator[None]:
    """Ready when entered: database migrated, handlers answering, settlement running. Drained when left."""
    metrics, health = Metrics(), Health()
    verdicts = metrics.counter("keys_verifications", "Verifications of API keys", ["verdict"])
    issued = metrics.counter("keys_issued", "API keys made", ["how"])
    latency = metrics.histogram("keys_request_seconds", "Time to answer a request", ["operation"], LATENCY)
    peppers = settings.peppers

    async with open_store(settings.keys_database_url) as store, connect_bus(settings) as bus:
        await _check_peppers(Operator(store, peppers, settings), peppers)
        await until_there(bus.ensure_streams, most=START)

        async def announce(key_id: str) -> None:
            await bus.nc.publish(subjects.KEYS_REVOKED, Revoked(key_id=key_id).encode())

        keys = KeyService(store, peppers, settings, announce, issued)
        verifier = Verifier(store, peppers, settings.starter_quota, verdicts)
        ledger = Ledger(store, settings.starter_quota)
        webhooks = Webhooks(store, peppers, settings)
        payers = Payers(store, peppers, settings, verifier.used)

        def timed(operation: str, handler: Handler) -> Handler:
            clock = latency.labels(operation)

            async def answer(ask: Frozen) -> Frozen:
                begun = time.perf_counter()
                try:
                    return await handler(ask)
                finally:
                    clock.observe(time.perf_counter() - begun)

            return answer

        handlers: dict[str, tuple[type[Frozen], Handler]] = {
            subjects.KEYS_VERIFY: (Verify, timed("verify", verifier.verify)),
            subjects.KEYS_CREATE: (CreateKey, timed("create", keys.create)),
            subjects.KEYS_LIST: (KeyRef, timed("list", keys.list_keys)),
            subjects.KEYS_ROTATE: (KeyRef, timed("rotate", keys.rotate)),
            subjects.KEYS_REVOKE: (KeyRef, timed("revoke", keys.revoke)),
            subjects.KEYS_CALLBACK: (SetCallback, timed("callback", webhooks.set_callback)),
            subjects.KEYS_SIGN_ANEW: (KeyRef, timed("sign-anew", webhooks.rotate)),
            subjects.KEYS_SIGNING: (KeyRef, timed("signing", webhooks.secrets)),
            subjects.KEYS_PAYER: (Payer, timed("payer", payers.claims)),
            subjects.KEYS_USAGE: (UsageRequest, timed("usage", ledger.usage)),
            subjects.KEYS_ADMIT: (Admit, timed("admit", ledger.admit)),
            subjects.KEYS_RESERVE: (Reserve, timed("reserve", ledger.reserve)),
        }
        health.add("database", store.ping)
        health.add("bus", bus.ping)
        try:
            async with Tasks(life.died) as tasks, bus.serve(subjects.KEYS_SERVICE, handlers):
                tasks.start(verifier.run(), name="last-used")
                tasks.start(settler(bus, ledger).run(), name="settle")
                async with ops_server(settings.ops_port, health, metrics):
                    yield
                    # Before anything is closed, which may wait for others: who stops us gives us a second.
                    await verifier.flush()
        finally:
            await verifier.flush()


async def _check_peppers(operator: Operator, peppers: Peppers) -> None:
    """A wrong pepper would refuse every caller without a word in the logs: better not to start at all."""
    found = await operator.by_pepper()
    lost = sum(count for version, count in found.items() if version not in peppers.versions)
    if lost and lost == sum(found.values()):
        raise LostPepper(
            "DESIFRE_KEYS_PEPPER: The keys in the database were made under another one, and none of them would work. "
            "Restore the secrets that belong to this database; if they are to be gone, revoke those keys first."
        )
    if lost:
        get_logger().error("keys under a pepper that is not known", count=lost)
