"""The half of the object store that reads: whole objects, ranges, streams and lists, in a bounded pool of threads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import TypeVar

import urllib3
from minio import Minio
from minio.datatypes import Object
from minio.error import MinioException, S3Error

from services.runtime.jsapi import Unavailable

T = TypeVar("T")

EPOCH = datetime.fromtimestamp(0, UTC)
USER = "x-amz-meta-"
NOT_THERE = frozenset(("NoSuchKey", "NoSuchBucket", "NoSuchUpload", "ResourceNotFound"))


class StoreFull(Unavailable):
    """The store has no room left."""


class Missing(Unavailable):
    """An object that is to be read is not in the store."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What the store says of an object."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that is being read, as it was at one moment: what the store says of it, and its bytes.

    `metadata` is what whoever put it wrote beside it, names in lower case. `chunks` can be read once.
    """

    stat: Stat
    metadata: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Reading:
    """One bucket as it is read. Every method raises `Unavailable` when the store is away."""

    def __init__(self, client: Minio, bucket: str, pool: ThreadPoolExecutor) -> None:
        self._client = client
        self._bucket = bucket
        self._pool = pool

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except S3Error as error:
            if error.code in ("XMinioStorageFull", "InsufficientStorage"):
                raise StoreFull("store") from error
            raise Unavailable("store") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unavailable("store") from error

    async def get(self, key: str) -> bytes | None:
        """A whole, small object; None when there is none."""

        def work() -> bytes | None:
            try:
                response = self._client.get_object(self._bucket, key)
            except S3Error as error:
                if error.code in NOT_THERE:
                    return None
                raise
            try:
                data: bytes = response.read()
                return data
            finally:
                response.release_conn()

        return await self._call(work)

    async def slice(self, key: str, offset: int, length: int) -> bytes:
        """`length` bytes of an object from `offset` on, which it must have. Raises `Missing`."""

        def work() -> bytes:
            try:
                response = self._client.get_object(self._bucket, key, offset=offset, length=length)
            except S3Error as error:
                if error.code in NOT_THERE:
                    raise Missing("store") from error
                raise
            try:
                data: bytes = response.read()
            finally:
                response.release_conn()
            if len(data) != length:
                raise OSError("the store sent less than was asked for")
            return data

        return await self._call(work)

    async def read(self, key: str, chunk: int = 1 << 20, offset: int = 0, length: int = 0) -> AsyncIterator[bytes]:
        """An object in pieces of `chunk` bytes, in constant memory; `length` 0 means to the end. Raises `Missing`."""
        async with self._reading(key, chunk, offset, length) as (_, pieces):
            async for data in pieces:
                yield data

    @asynccontextmanager
    async def opened(self, key: str, chunk: int = 1 << 20) -> AsyncIterator[Opened]:
        """An object with what lies beside it, in one request; its bytes as `read` has them. Raises `Missing`."""
        async with self._reading(key, chunk) as (given, pieces):
            headers = {name.lower(): value for name, value in given.items()}  # their case is the store's whim
            metadata = {name.removeprefix(USER): value for name, value in headers.items() if name.startswith(USER)}
            size, etag = int(headers.get("content-length", 0)), headers.get("etag", "").strip('"')
            modified = headers.get("last-modified")
            stat = Stat(key, size, etag, parsedate_to_datetime(modified) if modified else EPOCH)
            yield Opened(stat, metadata, pieces)

    @asynccontextmanager
    async def _reading(
        self, key: str, chunk: int, offset: int = 0, length: int = 0
    ) -> AsyncIterator[tuple[Mapping[str, str], AsyncIterator[bytes]]]:
        def work() -> urllib3.BaseHTTPResponse:
            try:
                return self._client.get_object(self._bucket, key, offset=offset, length=length)
            except S3Error as error:
                if error.code in NOT_THERE:
                    raise Missing("store") from error
                raise

        response = await self._call(work)
        left = int(response.headers.get("Content-Length", -1))

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal left
            while left and (data := await self._call(lambda: response.read(chunk))):
                left -= len(data)
                yield data

        try:
            yield response.headers, pieces()
        finally:
            if left:  # a connection on which there is something left to read must not go back to the pool
                await self._call(lambda: _close(response))
            else:
                response.release_conn()

    async def stat(self, key: str) -> Stat | None:
        """Size, ETag and time of an object; None when there is none."""

        def work() -> Stat | None:
            try:
                found = self._client.stat_object(self._bucket, key)
            except S3Error as error:
                if error.code in NOT_THERE:
                    return None
                raise
            return _stat(found)

        return await self._call(work)

    async def list(
        self, prefix: str, after: str | None = None, recursive: bool = True, page: int = 1000
    ) -> AsyncIterator[Stat]:
        """Objects below a prefix by key; with `recursive=False` folders appear as `…/` of size 0."""
        listing = self._client.list_objects(self._bucket, prefix=prefix, recursive=recursive, start_after=after)

        def some() -> list[Object]:
            return list(islice(listing, page))

        while found := await self._call(some):
            for one in found:
                yield _stat(one)
            if len(found) < page:
                return

    async def ping(self) -> None:
        """Raise unless the store answers and the bucket is there."""
        if not await self._call(lambda: self._client.bucket_exists(self._bucket)):
            raise Unavailable("store")


def _stat(found: Object) -> Stat:
    return Stat(found.object_name or "", found.size or 0, found.etag or "", found.last_modified or EPOCH)


def _close(response: urllib3.BaseHTTPResponse) -> None:
    response.close()
    response.release_conn()
