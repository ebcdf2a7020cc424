"""S3 credentials of a tenant's own: what they may, what they may not, and when they are worth nothing."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

from minio import Minio
from minio.commonconfig import CopySource
from minio.error import S3Error

from infra.stack import Stack
from tests.doors.bucket import client, operator


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


async def sign_up(stack: Stack) -> tuple[str, str]:
    """A new tenant, made by the operator beside keys that does not run, and its key's id."""
    made = await asyncio.to_thread(operator, stack, "exec", "keys-admin", "--", "create", "--username", "u")
    shown = dict(line.split("\t") for line in made.splitlines())
    return shown["tenant"], shown["key_id"]


async def test_a_tenants_own_credentials_open_its_prefix_and_nothing_else(tmp_path: Path) -> None:
    """They are made, renewed and taken away while the store runs, and a restart changes nothing of it."""
    async with Stack(tmp_path / "home", services=["s3"]) as stack:
        admin = client(stack, *stack.store_keys())
        tenant, key_id = await sign_up(stack)
        other, _ = await sign_up(stack)
        for key in (f"{tenant}/out/x.json", f"{other}/out/x.json", f"{other}/in/x.wav"):
            put(admin, key)()
        login = json.loads(await asyncio.to_thread(operator, stack, "drop-bind", tenant))
        assert (login["bucket"], login["prefix"], login["key"]) == ("drop", f"{tenant}/", key_id)
        first = client(stack, login["access_key"], login["secret_key"])
        for allowed in (
            put(first, f"{tenant}/in/a/Gr\u00fc\u00dfe.wav"),
            lambda: first.put_object("drop", f"{tenant}/in/m", io.BytesIO(bytes(6 << 20)), -1, part_size=5 << 20),
            lambda: first.get_object("drop", f"{tenant}/out/x.json").close(),
            lambda: first.remove_object("drop", f"{tenant}/in/m"),
            listed(first, f"{tenant}/"),
            listed(first, f"{tenant}/out/"),
        ):
            assert refused(allowed) == ""
        stolen = CopySource("drop", f"{other}/out/x.json")
        for forbidden in (
            put(first, f"{tenant}/out/x.json"),
            put(first, f"{tenant}/inside.wav"),
            put(first, f"{other}/in/a.wav"),
            lambda: first.get_object("drop", f"{other}/out/x.json"),
            lambda: first.remove_object("drop", f"{tenant}/out/x.json"),
            lambda: first.copy_object("drop", f"{tenant}/in/stolen", stolen),
            listed(first, ""),
            listed(first, f"{other}/"),
            lambda: list(first.list_objects("desifre")),
        ):
            assert refused(forbidden) == "AccessDenied"

        login = json.loads(await asyncio.to_thread(operator, stack, "drop-bind", tenant))
        second = client(stack, login["access_key"], login["secret_key"])
        assert refused(put(second, f"{tenant}/in/b.wav")) == ""
        assert refused(put(first, f"{tenant}/in/b.wav")) == "SignatureDoesNotMatch"
        await stack.process("s3").restart()
        while (after := refused(put(second, f"{tenant}/in/c.wav"))) == "XMinioIAMNotInitialized":
            await asyncio.sleep(0.05)  # MinIO answers for a moment before it knows anybody
        assert after == ""
        shown = await asyncio.to_thread(operator, stack, "drop-list")
        assert shown.splitlines()[0] == "TENANT\tACCESS_KEY\tKEY\tSTATE"
        assert shown.splitlines()[1].split() == [tenant, login["access_key"], key_id, "works"]

        await asyncio.to_thread(operator, stack, "drop-unbind", tenant)
        assert refused(put(second, f"{tenant}/in/d.wav"))
        await stack.process("s3").restart()
        assert refused(put(second, f"{tenant}/in/d.wav"))
        assert await asyncio.to_thread(operator, stack, "drop-list") == ""
