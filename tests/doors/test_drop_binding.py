"""S3 credentials of a tenant's own: what they may, what they may not, and when they are worth nothing."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import S3Error

from infra.stack import Stack

TENANT, OTHER = "boundtenant00000", "othertenant00000"


def drop(stack: Stack, *arguments: str) -> str:
    """What `desifre drop …` prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", *arguments],
        env={**os.environ, "DESIFRE_HOME": str(stack.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def client(stack: Stack, access: str, secret: str) -> Minio:
    http = urllib3.PoolManager(retries=False, timeout=10)
    return Minio(stack.store_endpoint, access, secret, secure=False, region="us-east-1", http_client=http)


def refused(work: Callable[[], object]) -> str:
    """The code with which the store refuses it, empty when it does not."""
    try:
        work()
    except S3Error as error:
        return error.code or "?"
    return ""


def put(who: Minio, key: str) -> Callable[[], object]:
    return lambda: who.put_object("drop", key, io.BytesIO(b"x"), 1)


def listed(who: Minio, prefix: str) -> Callable[[], object]:
    return lambda: [one.object_name for one in who.list_objects("drop", prefix, recursive=True)]


async def test_a_tenants_own_credentials_open_its_prefix_and_nothing_else(tmp_path: Path) -> None:
    """They are made, renewed and taken away while the store runs, and a restart changes nothing of it."""
    async with Stack(tmp_path / "home", services=["s3"]) as stack:
        admin = client(stack, *stack.store_keys())
        for key in (f"{TENANT}/out/x.json", f"{OTHER}/out/x.json", f"{OTHER}/in/x.wav"):
            put(admin, key)()
        login = json.loads(await asyncio.to_thread(drop, stack, "drop-bind", TENANT))
        assert (login["bucket"], login["prefix"]) == ("drop", f"{TENANT}/")
        first = client(stack, login["access_key"], login["secret_key"])
        for allowed in (
            put(first, f"{TENANT}/in/a/Gr\u00fc\u00dfe.wav"),
            lambda: first.put_object("drop", f"{TENANT}/in/m", io.BytesIO(bytes(6 << 20)), -1, part_size=5 << 20),
            lambda: first.get_object("drop", f"{TENANT}/out/x.json").close(),
            lambda: first.remove_object("drop", f"{TENANT}/in/m"),
            listed(first, f"{TENANT}/"),
            listed(first, f"{TENANT}/out/"),
        ):
            assert refused(allowed) == ""
        stolen = CopySource("drop", f"{OTHER}/out/x.json")
        for forbidden in (
            put(first, f"{TENANT}/out/x.json"),
            put(first, f"{TENANT}/inside.wav"),
            put(first, f"{OTHER}/in/a.wav"),
            lambda: first.get_object("drop", f"{OTHER}/out/x.json"),
            lambda: first.remove_object("drop", f"{TENANT}/out/x.json"),
            lambda: first.copy_object("drop", f"{TENANT}/in/stolen", stolen),
            listed(first, ""),
            listed(first, f"{OTHER}/"),
            lambda: list(first.list_objects("desifre")),
        ):
            assert refused(forbidden) == "AccessDenied"

        login = json.loads(await asyncio.to_thread(drop, stack, "drop-bind", TENANT))
        second = client(stack, login["access_key"], login["secret_key"])
        assert refused(put(second, f"{TENANT}/in/b.wav")) == ""
        assert refused(put(first, f"{TENANT}/in/b.wav")) == "SignatureDoesNotMatch"
        await stack.process("s3").restart()
        assert refused(put(second, f"{TENANT}/in/c.wav")) == ""
        assert TENANT in await asyncio.to_thread(drop, stack, "drop-list")

        await asyncio.to_thread(drop, stack, "drop-unbind", TENANT)
        assert refused(put(second, f"{TENANT}/in/d.wav"))
        await stack.process("s3").restart()
        assert refused(put(second, f"{TENANT}/in/d.wav"))
        assert await asyncio.to_thread(drop, stack, "drop-list") == ""
