"""A stream of unknown length into one object, in constant memory, by S3's multipart upload.

One part is sent while the next is filled, so an upload holds about three parts. (minio-py's `put_object` with an
unknown length reads from a blocking file object; here the bytes come from an event loop.)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from minio import Minio
from minio.datatypes import Part

from services.runtime.jsapi import Unavailable

PART = 8 << 20
"""Bytes of one part."""
Call = Callable[[Callable[[], Any]], Awaitable[Any]]
WriteOut = Callable[[], Awaitable[None]]
"""Writes out what the store has (the barrier)."""


async def upload(
    client: Minio, bucket: str, key: str, chunks: AsyncIterator[bytes], call: Call, write_out: WriteOut
) -> int:
    """Write `chunks` and return their length; `call` runs blocking work off the loop.

    What was sent is written out while more is sent, never more than some parts behind: a barrier waits for whatever
    the file system holds, and somebody's clip beside an upload of 1 GiB would wait for a second and more. Whatever
    goes wrong, in the stream or in the store, the upload is aborted and nothing stays behind.
    """
    buffer = bytearray()
    upload_id: str | None = None
    parts: list[Part] = []
    sending: asyncio.Task[Part] | None = None
    writing: asyncio.Future[None] | None = None
    size = 0

    async def send(number: int, data: bytes, to: str) -> Part:
        return Part(number, await call(lambda: client._upload_part(bucket, key, data, None, to, number)))

    try:
        async for chunk in chunks:
            buffer += chunk
            size += len(chunk)
            while len(buffer) >= PART:
                if upload_id is None:
                    upload_id = await call(lambda: client._create_multipart_upload(bucket, key, {}))
                if sending is not None:
                    parts.append(await sending)
                    if writing is not None:
                        await writing
                    writing = asyncio.ensure_future(write_out())
                piece = bytes(memoryview(buffer)[:PART])
                del buffer[:PART]
                sending = asyncio.create_task(send(len(parts) + 1, piece, str(upload_id)), name="upload part")
        if upload_id is None:
            data = bytes(buffer)
            await call(lambda: client._put_object(bucket, key, data, {}))
            return size
        if sending is not None:
            parts.append(await sending)
        if buffer:
            parts.append(await send(len(parts) + 1, bytes(buffer), upload_id))
        if writing is not None:
            await writing
        await call(lambda: client._complete_multipart_upload(bucket, key, str(upload_id), parts))
    except BaseException:
        await asyncio.gather(*(one for one in (sending, writing) if one is not None), return_exceptions=True)
        if upload_id is not None:
            # Shielded: a request that is cancelled must not leave its parts behind either.
            await asyncio.shield(_abort(client, bucket, key, upload_id, call))
        raise
    return size


async def _abort(client: Minio, bucket: str, key: str, upload_id: str, call: Call) -> None:
    try:
        await call(lambda: client._abort_multipart_upload(bucket, key, upload_id))
    except Unavailable:
        return  # the sweep of stale uploads finds it
