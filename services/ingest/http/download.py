"""A recording on its way out: streamed from the store, whole or the range that is asked for."""

import asyncio

from aiohttp import web

from services.ingest.http.names import attachment
from services.ingest.jobs import Audio
from services.runtime.jsapi import Unavailable

UNNAMED = "recording"
HARMLESS = {
    # What was uploaded is shown to nobody as a page, and to no other site.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
STALLED = 60.0
"""Seconds in which a client must have taken the next megabyte."""


async def download(request: web.Request, audio: Audio, name: str | None = None) -> web.StreamResponse:
    """The recording as an attachment under `name`, or its client's name.

    A range that cannot be honoured is ignored (RFC 9110).
    """
    etag = f'"{audio.sha256}"'
    first, last, status = _range(request, audio.size, etag)
    response = web.StreamResponse(status=status)
    response.content_type = audio.kind
    response.headers.update(HARMLESS)
    response.headers["ETag"] = etag
    response.content_length = last - first + 1
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Disposition"] = attachment(name or audio.name or UNNAMED)
    response.headers["Cache-Control"] = "no-store"
    if status == 206:
        response.headers["Content-Range"] = f"bytes {first}-{last}/{audio.size}"
    pieces = audio.read(first, last - first + 1)
    # The first piece before the head: a store that is away is still an answer then.
    piece = await anext(pieces, b"")
    await response.prepare(request)
    try:
        while piece:
            async with asyncio.timeout(STALLED):
                await response.write(piece)
            piece = await anext(pieces, b"")
    except (Unavailable, ConnectionError, TimeoutError):
        # Too late for another answer. A broken connection says that the length promised was not kept.
        if request.transport is not None:
            request.transport.abort()
    return response


def _range(request: web.Request, size: int, etag: str) -> tuple[int, int, int]:
    """First and last byte, and the status."""
    whole = (0, size - 1, 200)
    if request.headers.get("If-Range", etag) != etag:
        return whole
    try:
        wanted = request.http_range
    except ValueError:
        return whole
    if wanted.start is None:
        return whole
    first = max(0, wanted.start + size) if wanted.start < 0 else wanted.start
    last = min(wanted.stop or size, size) - 1
    return (first, last, 206) if first <= last else whole
