"""What object stores say of new objects, in their several ways, brought to one: in which tenants' folders there is one.

An event is a hint and never the only reason: stores lose them, repeat them, and tell of our own writes too.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

from services.contracts import objects
from services.contracts.ids import is_tenant

_FILER = f"/buckets/{objects.DROP_BUCKET}/"


def tenants_of(event: object) -> set[str]:
    """The tenants under whose `in/` something was put. What cannot be understood tells of nobody."""
    tenants = ((key.split("/", 1)[0], key) for key in _keys(event))
    return {tenant for tenant, key in tenants if is_tenant(tenant) and key.startswith(objects.drop_in(tenant))}


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
