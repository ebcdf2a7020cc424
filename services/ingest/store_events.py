"""What object stores say of new objects, in their several ways, brought to one: in which tenants' folders there is one.

An event is a hint and never the only reason: stores lose them, repeat them, and tell of our own writes too.
"""

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote_plus

from nats.aio.msg import Msg

from services.contracts import objects, subjects
from services.contracts.ids import is_tenant
from services.runtime.bus import Bus

_FILER = f"/buckets/{objects.DROP_BUCKET}/"


def tenants_of(event: object) -> set[str]:
    """The tenants under whose `in/` something was put. What cannot be understood tells of nobody."""
    tenants = ((key.split("/", 1)[0], key) for key in _keys(event))
    return {tenant for tenant, key in tenants if is_tenant(tenant) and key.startswith(objects.drop_in(tenant))}


@asynccontextmanager
async def listening(bus: Bus, wake: Callable[[Collection[str]], None]) -> AsyncIterator[None]:
    """Hand on what a store says on the bus itself, as MinIO does."""

    async def hear(message: Msg) -> None:
        try:
            event = json.loads(message.data)
        except (ValueError, RecursionError):
            return
        if tenants := tenants_of(event):
            wake(tenants)

    hearing = await bus.nc.subscribe(f"{subjects.RELAY}.{subjects.STORE_DROP}", cb=hear)
    try:
        yield
    finally:
        await hearing.unsubscribe()


def _keys(event: object) -> Iterator[str]:
    match event:
        # SeaweedFS's webhook: a path in its filer; `/.uploads/` holds the parts of uploads under way.
        case {"event_type": "create" | "update", "key": str(path)} if path.startswith(_FILER):
            yield path.removeprefix(_FILER)
        # S3's own shape, as MinIO and AWS have it; keys are as in a form.
        case {"Records": list(records)}:
            for record in records:
                yield from _record(record)


def _record(record: Any) -> Iterator[str]:
    match record:
        case {"s3": {"bucket": {"name": objects.DROP_BUCKET}, "object": {"key": str(key)}}}:
            yield unquote_plus(key)
