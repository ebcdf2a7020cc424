"""What is asked for a dropped object: by its own metadata, and by the `desifre.json` of its folder."""

import json
from collections.abc import Mapping

from services.contracts import objects
from services.contracts.errors import Code, Problem
from services.contracts.jobs import Options
from services.ingest.callbacks.policy import FIELDS
from services.ingest.options import ALIASES, field_of
from services.runtime.blobs import Blobs

LARGEST = 64 << 10
"""Bytes."""
_OPTIONS = frozenset((*Options.model_fields, *ALIASES, *FIELDS))


def wished(metadata: Mapping[str, str]) -> dict[str, str]:
    """The options among an object's metadata. What other programs write beside it is none of our business."""
    asked = {name.replace("-", "_"): value for name, value in metadata.items()}
    return _named({name: value for name, value in asked.items() if name in _OPTIONS})


class Orders:
    """A tenant's orders, each read once. For one walk through its folder: they may change."""

    def __init__(self, drop: Blobs, tenant: str) -> None:
        self._drop = drop
        self._top = objects.drop_in(tenant)
        self._known: dict[str, Mapping[str, str] | None] = {}

    async def of(self, key: str) -> Mapping[str, str]:
        """What the order in the object's folder says, or the nearest one above it. Raises `Problem` OPTION_VALUE."""
        folder = key.rpartition("/")[0] + "/"
        while len(folder) >= len(self._top):
            if folder not in self._known:
                self._known[folder] = await self._read(folder + objects.ORDER)
            if (found := self._known[folder]) is not None:
                return found
            folder = folder[:-1].rpartition("/")[0] + "/"
        return {}

    async def _read(self, key: str) -> Mapping[str, str] | None:
        stat = await self._drop.stat(key)
        if stat is None:
            return None
        data = await self._drop.get(key) if stat.size <= LARGEST else b""
        try:
            document = json.loads(data or b"")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Problem(Code.OPTION_VALUE, f"`{objects.ORDER}` is not a small JSON object.")
        return _named({name: field_of(value) for name, value in document.items()})


def _named(fields: Mapping[str, str]) -> dict[str, str]:
    return {ALIASES.get(name, name): value for name, value in fields.items()}
