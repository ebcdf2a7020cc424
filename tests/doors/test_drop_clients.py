"""The bucket by the clients that people have: rclone and boto3, with what `desifre drop bind` prints."""

import asyncio
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.stack import Stack
from tests.doors.bucket import ENDINGS, TALK, Bucket, bucket_of, operator, settings, sidecars
from tests.doors.counting import LISTING, Counting, counting

MIB = 1 << 20


@dataclass(frozen=True)
class Login:
    """What `desifre drop bind` printed for a tenant."""

    endpoint: str
    region: str
    bucket: str
    prefix: str
    access_key: str
    secret_key: str
    key: str

    def rclone(self, *arguments: str) -> None:
        """Run rclone with a remote `store` that is this login's."""
        remote = {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": self.endpoint,
            "REGION": self.region,
            "ACCESS_KEY_ID": self.access_key,
            "SECRET_ACCESS_KEY": self.secret_key,
            "NO_CHECK_BUCKET": "true",
        }
        done = subprocess.run(
            [Path(sys.executable).with_name("rclone"), "--config", os.devnull, "--retries", "1", *arguments],
            env={**os.environ, **{f"RCLONE_CONFIG_STORE_{name}": value for name, value in remote.items()}},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def remote(self, folder: str) -> str:
        # Without the slash at its end rclone asks for an object of that name, and SeaweedFS takes a folder for one.
        return f"store:{self.bucket}/{self.prefix}{folder}/"

    def boto3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"total_max_attempts": 1}, max_pool_connections=16),
        )


async def bound(stack: Stack, bucket: Bucket) -> Login:
    return Login(**json.loads(await asyncio.to_thread(operator, stack, "drop-bind", bucket.tenant)))


@pytest.fixture(scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Bucket, Login]]:
    """A tenant's part in a whole service, which looks into the bucket every second, and its own credentials."""
    async with Stack(tmp_path_factory.mktemp("clients"), settings=settings()) as stack:
        async for found in bucket_of(stack):
            yield found, await bound(stack, found)


async def dropped(bucket: Bucket) -> Counter[str]:
    """How many jobs there are of each object, by its name below `in/`."""
    return Counter((one.dropped or "").removeprefix(f"{bucket.tenant}/in/") for one in await bucket.manifests())


def plant(root: Path, names: list[str]) -> None:
    """A tree of short recordings, no two alike."""
    for n, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(TALK + n.to_bytes(4))


async def test_rclone_copies_a_tree_and_fetches_the_transcripts(here: tuple[Bucket, Login], tmp_path: Path) -> None:
    """Any names and folders; copying it again makes no second job, and what is empty gets its error."""
    bucket, login = here
    names = [f"{folder}/{n}.wav" for folder in ("calls", "Görüşmeler/2026 Ağustos", "日本/語") for n in range(7)]
    names += ["100% & co?.wav", "a+b=c 'quoted' \"twice\".wav", "ünlü\u0308.wav"]
    plant(tmp_path / "tree", names)
    (tmp_path / "tree" / "empty.wav").touch()
    for _ in range(2):
        await asyncio.to_thread(login.rclone, "copy", str(tmp_path / "tree"), login.remote("in/tree"))
    there = sorted([*sidecars(*names), "empty.wav.error.json"])
    assert await bucket.until(lambda found: found.issuperset(there), "out/tree/") == there
    await asyncio.to_thread(login.rclone, "copy", login.remote("out/tree"), str(tmp_path / "out"))
    found = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert sorted(found) == there
    assert json.loads(found["empty.wav.error.json"].read_bytes())["code"] == "empty_file"
    assert await dropped(bucket) == {f"tree/{name}": 1 for name in names}
    assert {manifest.key_id for manifest in await bucket.manifests()} == {bucket.key_id}


async def test_boto3_uploads_in_parts(here: tuple[Bucket, Login]) -> None:
    """An upload in parts is a job when it is complete, and none before, nor when it is aborted."""
    bucket, login = here
    s3 = login.boto3()
    data = TALK + b"JUNK" + (6 * MIB).to_bytes(4, "little") + bytes(6 * MIB)
    parts = [data[: 5 * MIB], data[5 * MIB :]]

    def begin(name: str) -> dict[str, str]:
        where = {"Bucket": login.bucket, "Key": f"{login.prefix}in/{name}"}
        return where | {"UploadId": s3.create_multipart_upload(**where)["UploadId"]}

    def send(upload: dict[str, str], n: int) -> dict[str, Any]:
        return {"PartNumber": n, "ETag": s3.upload_part(**upload, PartNumber=n, Body=parts[n - 1])["ETag"]}

    async def of_parts() -> Counter[str]:
        return Counter({name: n for name, n in (await dropped(bucket)).items() if name.startswith("parts/")})

    begun, aborted = [await asyncio.to_thread(begin, f"parts/{name}.wav") for name in ("begun", "aborted")]
    first = await asyncio.to_thread(send, begun, 1)
    await asyncio.to_thread(send, aborted, 1)
    await asyncio.to_thread(lambda: s3.abort_multipart_upload(**aborted))
    whole = {"Bucket": login.bucket, "Key": f"{login.prefix}in/parts/whole.wav"}
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    await asyncio.to_thread(lambda: s3.upload_fileobj(io.BytesIO(data), **whole, Config=config))
    await bucket.has(*sidecars("parts/whole.wav"))
    assert await of_parts() == {"parts/whole.wav": 1}

    second = await asyncio.to_thread(send, begun, 2)
    await asyncio.to_thread(lambda: s3.complete_multipart_upload(**begun, MultipartUpload={"Parts": [first, second]}))
    await bucket.has(*sidecars("parts/begun.wav"))
    assert await of_parts() == {"parts/whole.wav": 1, "parts/begun.wav": 1}
    assert {manifest.size for manifest in await bucket.manifests() if manifest.size > MIB} == {len(data)}


async def test_no_key_leads_out_of_a_tenants_folder(here: tuple[Bucket, Login]) -> None:
    """Keys with `..`, `.` or empty steps are refused by the store or left alone; nobody else gets anything."""
    bucket, login = here
    other = await bucket.another()
    s3, before = login.boto3(), await dropped(bucket)
    outside = (f"in/../../{other.tenant}/in/x.wav", f"../{other.tenant}/in/x.wav", "in/a/../../out/x.wav")
    for name in (*outside, "in//x.wav", "in/./x.wav", "in/a/../b.wav", "in/hostile\x01\n.wav"):
        ask = {"Bucket": login.bucket, "Key": login.prefix + name, "Body": TALK}
        with suppress(ClientError):  # the store's own refusal will do
            await asyncio.to_thread(lambda ask=ask: s3.put_object(**ask))
    await bucket.put("in/last.wav", TALK)
    await bucket.has(*sidecars("last.wav"))
    assert await other.names("") == []
    assert await other.jobs() == []
    new = await dropped(bucket) - before
    assert {step for name in new for step in name.split("/")}.isdisjoint(("", ".", ".."))
    assert set(new.values()) == {1}


def put_all(login: Login, names: list[str]) -> None:
    """Put recordings with boto3, eight at a time, no two alike."""
    s3 = login.boto3()

    def put(n: int) -> None:
        s3.put_object(Bucket=login.bucket, Key=f"{login.prefix}in/{names[n]}", Body=TALK + b"boto3" + n.to_bytes(4))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(len(names))))


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_thousand_files_by_two_clients_hold_up_nobody(tmp_path: Path) -> None:
    """All their transcripts are there, none was made twice, listings stay few, and a second tenant is not delayed."""
    async with counting() as counter:
        wired = {"DESIFRE_STORE_ENDPOINT": counter.endpoint}
        more = {"keys": {"DESIFRE_QUOTA_JOBS": "2000"}, "transcriber": {"DESIFRE_ENGINE": "digest"}, "ingest": wired}
        stack = Stack(tmp_path / "home", settings=more)
        counter.target = lambda: stack.store_endpoint
        async with stack:
            async for bucket in bucket_of(stack):
                await drop_a_thousand(stack, bucket, counter, tmp_path / "tree")


async def drop_a_thousand(stack: Stack, bucket: Bucket, counter: Counting, tree: Path) -> None:
    names = [f"{n % 10}/{n:04d}.wav" for n in range(1000)]
    plant(tree, names[:500])
    other = await bucket.another()
    login, theirs = await bound(stack, bucket), await bound(stack, other)

    async def left() -> int:
        return len(names) - len(await bucket.names()) // len(ENDINGS)

    before = counter.requests[LISTING]
    await asyncio.gather(
        asyncio.to_thread(put_all, login, names[500:]),
        asyncio.to_thread(login.rclone, "copy", str(tree), login.remote("in")),
    )
    waiting = await left()
    await asyncio.to_thread(put_all, theirs, ["single.wav"])
    await other.has(*sidecars("single.wav"))
    # It waits for seconds, not for the minutes that those before it take.
    assert await left() > 0.8 * waiting > 400, waiting

    there = sidecars(*names)
    assert await bucket.until(lambda found: len(found) >= len(there), patience=600) == there
    listings = counter.requests[LISTING] - before
    assert await dropped(bucket) == dict.fromkeys(names, 1)
    # A page of the listing holds a thousand objects, so each look costs one or two.
    assert listings < len(names) / 4, counter.requests
