"""A tenant's part of the bucket `drop` in a running service, for the tests of that door."""

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from minio import Minio

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import CreateKey, NewKey
from services.contracts.events import Record
from services.contracts.jobs import Manifest
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.records import Records
from tests import media
from tests.contract.ingest_support import open_ingest, settings_of

TALK = media.encode(media.talk(1.5, seed=2), "wav")
PATIENCE = 120.0
ENDINGS = (".json", ".srt", ".vtt", ".txt")


@dataclass(frozen=True)
class Bucket:
    """A tenant's part of the bucket `drop`, and its jobs."""

    tenant: str
    client: Minio
    bus: Bus
    blobs: Blobs
    records: Records
    key_id: str = ""
    """Of the key that the tenant has from the start."""

    async def put(self, name: str, data: bytes, metadata: dict[str, Any] | None = None) -> None:
        await asyncio.to_thread(
            self.client.put_object, *("drop", f"{self.tenant}/{name}", io.BytesIO(data), len(data)), metadata=metadata
        )

    async def get(self, name: str) -> bytes:
        def work() -> bytes:
            with self.client.get_object("drop", f"{self.tenant}/{name}") as response:
                data: bytes = response.read()
                return data

        return await asyncio.to_thread(work)

    async def names(self, folder: str = "out/") -> list[str]:
        def work() -> list[str]:
            found = self.client.list_objects("drop", f"{self.tenant}/{folder}", recursive=True)
            return sorted((one.object_name or "").removeprefix(f"{self.tenant}/{folder}") for one in found)

        return await asyncio.to_thread(work)

    async def until(
        self, enough: Callable[[set[str]], bool], folder: str = "out/", patience: float = PATIENCE
    ) -> list[str]:
        """The names in a folder, as soon as they are enough."""
        async with asyncio.timeout(patience):
            while not enough(set(names := await self.names(folder))):
                await asyncio.sleep(0.2)
        return names

    async def has(self, *names: str) -> list[str]:
        return await self.until(lambda found: found.issuperset(names))

    async def until_admitted(self, count: int) -> None:
        """Wait until so many jobs were made of what lies here."""
        async with asyncio.timeout(PATIENCE):
            while sum(tenant == self.tenant for tenant, _ in await self.records.every()) < count:
                await asyncio.sleep(0.1)

    async def jobs(self) -> list[Record]:
        return [
            record
            for tenant, job in await self.records.every()
            if tenant == self.tenant and (record := await self.records.get(tenant, job))
        ]

    async def manifests(self) -> list[Manifest]:
        found = [await self.records.manifest(record.tenant, record.job) for record in await self.jobs()]
        return [manifest for manifest in found if manifest is not None]

    async def another(self) -> "Bucket":
        new = await self.bus.request(subjects.KEYS_CREATE, CreateKey(username="u", address="127.0.0.1"), NewKey)
        return Bucket(new.tenant, self.client, self.bus, self.blobs, self.records, new.key_id)


async def bucket_of(stack: Stack) -> AsyncIterator[Bucket]:
    access, secret = stack.store_keys()
    client = Minio(stack.store_endpoint, access, secret, secure=False, region="us-east-1")
    async with open_ingest(settings_of(stack)) as ingest:
        yield await Bucket("", client, ingest.bus, ingest.blobs, ingest.records).another()


def settings(**more: str) -> dict[str, dict[str, str]]:
    return {"transcriber": {"DESIFRE_ENGINE": "digest"}, "ingest": {"DESIFRE_DROP_EVERY": "1", **more}}


def sidecars(*names: str) -> list[str]:
    return sorted(name + ending for name in names for ending in ENDINGS)


def operator(stack: Stack, *arguments: str) -> str:
    """What an operator's command prints: `drop-bind TENANT`, `exec keys-admin -- list`."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", *arguments],
        env={**os.environ, "DESIFRE_HOME": str(stack.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def client(stack: Stack, access: str, secret: str) -> Minio:
    http = urllib3.PoolManager(retries=False, timeout=60)
    return Minio(stack.store_endpoint, access, secret, secure=False, region="us-east-1", http_client=http)
