"""Asking a process whether it is ready, with the standard library alone."""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from infra.s3 import signing, weed
from infra.stack.ports import LOOPBACK

Probe = Callable[[], Awaitable[bool]]
PROBE_TIMEOUT = 2.0
ROOM = 64 << 20
"""Bytes on the disk below which another start of the bus is of no use."""
LOOKS = 5


async def http_status(port: int, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> int:
    """The status code of a request to a port of the loopback, 0 when nobody answers within PROBE_TIMEOUT."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if not headers or "host" not in headers:
        lines.append(f"host: {LOOPBACK}:{port}")
    request = "\r\n".join([*lines, "connection: close", "", ""])
    with contextlib.suppress(OSError, ValueError, IndexError, TimeoutError):
        async with asyncio.timeout(PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request.encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    return 0


def http_ok(port: int, path: str) -> Probe:
    """Ready when `path` answers 200."""

    async def probe() -> bool:
        return await http_status(port, path) == 200

    return probe


def buckets_ok(port: int, access_key: str, secret_key: str) -> Probe:
    """Ready when every bucket is there: weed says it is well 0.7 s before it has made them."""

    async def probe() -> bool:
        for bucket in weed.BUCKETS:
            if await head(port, f"/{bucket}", access_key, secret_key) != 200:
                return False
        return True

    return probe


async def head(port: int, path: str, access_key: str, secret_key: str) -> int:
    """The status code of the store for this path and these credentials."""
    host = f"{LOOPBACK}:{port}"
    signed = signing.headers("HEAD", host, path, access_key=access_key, secret_key=secret_key, now=datetime.now(UTC))
    return await http_status(port, path, method="HEAD", headers=signed)


def bus_stuck(monitor_port: int, folder: Path) -> Probe:
    """Whether nats-server, which was well, has said LOOKS times in a row that it is not, though the disk has room.

    When the disk was full it has given up the stream that it wrote to, or all of JetStream, until its next start.
    """
    unwell = 0

    async def probe() -> bool:
        nonlocal unwell
        unwell = unwell + 1 if await http_status(monitor_port, "/healthz") == 503 else 0
        return unwell >= LOOKS and shutil.disk_usage(folder).free >= ROOM

    return probe


def prepared(port: int, path: str, prepare: Callable[[], None]) -> Probe:
    """Ready when `path` answers 200 and `prepare`, which blocks and runs once, is through."""
    done = False

    async def probe() -> bool:
        nonlocal done
        if await http_status(port, path) != 200:
            return False
        if not done:
            try:
                await asyncio.to_thread(prepare)
            except Exception:  # noqa: BLE001 - it says that it is well before all of it is: asked again in a moment
                return False
            done = True
        return True

    return probe
