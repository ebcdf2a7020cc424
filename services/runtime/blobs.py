"""The object store: plain S3 calls through the minio SDK, in a bounded pool of threads, never on the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from services.runtime.barrier import Barrier
from services.runtime.failpoints import Failpoints
from services.runtime.jsapi import Unavailable
from services.runtime.multipart import upload
from services.runtime.reading import NOT_THERE, Reading
from services.runtime.settings import Settings

BINARY = {"Content-Type": "application/octet-stream"}


def kind_of(key: str) -> str:
    """The kind of an object of a job (`source`, `parts`, `words`, `job`, `plan`, …), for failpoints and metrics."""
    pieces = key.split("/")
    if len(pieces) < 4:
        return "other"
    if pieces[3] == "parts":
        return "pcm" if key.endswith(".pcm") else "part"
    return pieces[3].partition(".")[0]


class Blobs(Reading):
    """One bucket, read and written. A method that raises `Unavailable` did nothing by halves."""

    def __init__(
        self, client: Minio, bucket: str, pool: ThreadPoolExecutor, barrier: Barrier, failpoints: Failpoints
    ) -> None:
        super().__init__(client, bucket, pool)
        self._barrier = barrier
        self._fail = failpoints

    def bucket(self, name: str) -> "Blobs":
        """Another bucket of the same store, by the same client and threads."""
        return Blobs(self._client, name, self._pool, self._barrier, self._fail)

    async def put_once(self, key: str, data: bytes) -> bool:
        """Write an object that is not there; False when it is there already: take theirs (`If-None-Match: *`)."""
        return await self._put(key, data, {"If-None-Match": "*", **BINARY})

    async def put(self, key: str, data: bytes) -> None:
        """Write an object, whatever is there."""
        await self._put(key, data, {**BINARY})

    async def _put(self, key: str, data: bytes, headers: dict[str, str | list[str] | tuple[str]]) -> bool:
        def work() -> bool:
            try:
                # minio-py has no parameter for a conditional put.
                self._client._execute(
                    "PUT",
                    self._bucket,
                    object_name=key,
                    body=data,
                    headers={"Content-Type": "application/octet-stream"} | headers,
                )
            except S3Error as error:
                if error.code == "PreconditionFailed":
                    return False
                raise
            return True

        self._fail.hit("put", kind_of(key), "before")
        writing = asyncio.ensure_future(self._call(work))
        try:
            written = await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A thread cannot be stopped: who is cancelled must be able to remove what was written all the same.
            await asyncio.wait([writing])
            raise
        self._fail.hit("put", kind_of(key), "after")
        return written

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        names = list(keys)
        wanted = [DeleteObject(key) for key in names]

        def work() -> None:
            if len(names) == 1:  # half the work of a list of one, on both sides
                self._client.remove_object(self._bucket, names[0])
                return
            for error in self._client.remove_objects(self._bucket, wanted):
                if error.code not in NOT_THERE:
                    raise OSError(error.code)

        if wanted:
            self._fail.hit("delete", kind_of(names[0]), "before")
            await self._call(work)
            self._fail.hit("delete", kind_of(names[0]), "after")

    async def delete_prefix(self, prefix: str, keep: frozenset[str] = frozenset()) -> int:
        """Remove everything below a prefix but `keep`; returns how many objects went."""
        batch: list[str] = []
        count = 0
        async for found in self.list(prefix):
            if found.key not in keep:
                batch.append(found.key)
                count += 1
            if len(batch) == 500:
                await self.delete(batch)
                batch = []
        await self.delete(batch)
        return count

    async def copy(self, source: str, target: str) -> None:
        """Copy an object inside the store."""
        self._fail.hit("put", kind_of(target), "before")
        await self._call(lambda: self._client.copy_object(self._bucket, target, CopySource(self._bucket, source)))
        self._fail.hit("put", kind_of(target), "after")

    async def upload(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write a stream of any length in constant memory, and return its length in bytes.

        Small streams go in one put. Whatever goes wrong, in the stream or in the store, nothing stays behind.
        """
        self._fail.hit("put", kind_of(key), "before")
        size = await upload(self._client, self._bucket, key, chunks, self._call, self.durable)
        self._fail.hit("put", kind_of(key), "after")
        return size

    async def begin_parts(self, key: str) -> str:
        """Begin an upload whose parts somebody else puts, by presigned URLs; returns its id."""
        return str(await self._call(lambda: self._client._create_multipart_upload(self._bucket, key, {})))

    async def join_parts(self, key: str, upload_id: str, sizes: Sequence[int]) -> bool:
        """Make an object of its parts, at most 1,000, if all are there in these sizes; False if they are not.

        Also False when that was done before: whoever repeats it looks for the object.
        """

        def work() -> bool:
            try:
                parts = self._client._list_parts(self._bucket, key, upload_id, max_parts=1000).parts
                if [(part.part_number, part.size) for part in parts] != list(enumerate(sizes, 1)):
                    return False
                self._client._complete_multipart_upload(self._bucket, key, upload_id, parts)
            except S3Error as error:
                if error.code in NOT_THERE:
                    return False
                raise
            return True

        return await self._call(work)

    async def stale_uploads(self, older_than: datetime, key: str | None = None) -> int:
        """Abort multipart uploads, or those of one key, that were begun before `older_than`; returns how many."""

        def work() -> int:
            found = self._client._list_multipart_uploads(self._bucket, prefix=key, max_uploads=1000)
            old = [one for one in found.uploads if one.initiated_time and one.initiated_time < older_than]
            for one in old:
                self._client._abort_multipart_upload(self._bucket, one.object_name, str(one.upload_id))
            return len(old)

        return await self._call(work)

    async def durable(self) -> None:
        """The barrier: what was put before this call survives a power cut after it."""
        try:
            await self._barrier.wait()
        except OSError as error:
            raise Unavailable("store") from error

    async def check_conditional(self, key: str) -> None:
        """Raise unless the store honours `If-None-Match: *`: without it a zombie could overwrite a transcript."""
        await self.put(key, b"1")
        if await self.put_once(key, b"2"):
            raise RuntimeError("the object store ignores If-None-Match; the service cannot keep its promise on it")


@asynccontextmanager
async def open_blobs(settings: Settings, failpoints: Failpoints | None = None) -> AsyncIterator[Blobs]:
    """Open the store's client, its threads and its barrier."""
    http = urllib3.PoolManager(
        maxsize=settings.store_threads,
        # On a new connection urllib3 gives the sending of the body as long as the connecting: a busy store may pause.
        timeout=urllib3.Timeout(connect=10, read=60),
        # The protocol repeats whole steps; retries inside would only hide that the store is away.
        retries=urllib3.Retry(total=1, backoff_factor=0.1, status_forcelist=()),
    )
    client = Minio(
        settings.store_endpoint,
        settings.store_access_key,
        settings.store_secret_key.get_secret_value(),
        secure=settings.store_secure,
        region="us-east-1",
        http_client=http,
    )
    with ThreadPoolExecutor(settings.store_threads, thread_name_prefix="store") as pool:
        yield Blobs(
            client,
            settings.store_bucket,
            pool,
            Barrier(settings.store_sync_dir),
            failpoints or Failpoints(settings.failpoint),
        )
        http.clear()
