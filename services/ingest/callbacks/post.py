"""One call of a receiver: dialled with care, answered within a deadline, and hardly listened to."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.contracts.errors import Problem
from services.ingest.callbacks.addresses import Inner, guarded_socket
from services.ingest.callbacks.policy import Policy
from services.ingest.callbacks.schedule import retry_after

READ = 64 << 10
"""Bytes of an answer that are read at most."""
SHOWN = 200
"""Printable characters of an answer that are kept: who may choose the receiver must not read much through us."""
THROTTLES = frozenset((429, 502, 503, 504))
"""Statuses whose Retry-After is heeded."""
LOOKUPS = 32
"""Names that are looked up at once, each in a thread that a slow name server can hold for half a minute."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call: a status, or an `error` in one word."""

    status: int | None = None
    error: str | None = None
    response: str | None = None
    retry_after: float | None = None


class Poster:
    """Calls receivers. Open it with `poster(...)`."""

    def __init__(self, policy: Policy, guarded: aiohttp.ClientSession, listed: aiohttp.ClientSession) -> None:
        self._policy = policy
        self._guarded = guarded
        self._listed = listed

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One call; it never raises for what the receiver does."""
        try:
            target = URL(self._policy.check(url))
        except Problem:
            return Answer(error="url_refused")  # what is allowed has changed since the job was admitted
        session = self._listed if self._policy.listed(target) else self._guarded
        try:
            async with session.post(target, data=body, headers=headers, allow_redirects=False) as response:
                asked = response.headers.get("Retry-After") if response.status in THROTTLES else None
                return Answer(
                    status=response.status,
                    response=await _beginning(response),
                    retry_after=retry_after(asked, time.time()),
                )
        except TimeoutError:
            return Answer(error="timeout")
        except aiohttp.InvalidURL:
            return Answer(error="url_refused")
        except aiohttp.ClientConnectorDNSError:
            return Answer(error="unknown_host")
        except aiohttp.ClientSSLError:
            return Answer(error="tls")
        except aiohttp.ClientConnectorError as error:
            return Answer(error="address_refused" if isinstance(error.os_error, Inner) else "no_connection")
        except (aiohttp.ClientError, OSError, ValueError):
            return Answer(error="no_answer")


@asynccontextmanager
async def poster(policy: Policy, *, timeout: float, resolver: AbstractResolver | None = None) -> AsyncIterator[Poster]:
    """A poster; `timeout` are the seconds that a call may take in all."""
    async with AsyncExitStack() as stack:
        names = resolver or Lookups()
        stack.push_async_callback(names.close)
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        resolver=names,
                        socket_factory=guard,
                        ssl=ssl.create_default_context(),
                        # Each call dials anew, and so is looked at anew; how many there are is limited elsewhere.
                        force_close=True,
                        use_dns_cache=False,
                        limit=0,
                    ),
                    connector_owner=True,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={
                        "User-Agent": "desifre",
                        "Content-Type": "application/json",
                        "Accept-Encoding": "identity",
                    },
                    timeout=aiohttp.ClientTimeout(total=timeout),
                    auto_decompress=False,
                    trust_env=False,
                )
            )
            for guard in (guarded_socket, None)
        ]
        yield Poster(policy, *sessions)


class Lookups(AbstractResolver):
    """The system's resolver in threads of its own, so that slow name servers hold up nothing else."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of a name."""
        ask = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Wait for nobody."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _beginning(response: aiohttp.ClientResponse) -> str | None:
    """The first printable characters of an answer. The status stands, whatever becomes of the rest."""
    data = b""
    try:
        while len(data) < READ and (more := await response.content.read(READ - len(data))):
            data += more
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass
    return "".join(chr(byte) for byte in data[: 4 * SHOWN] if 32 <= byte < 127)[:SHOWN] or None
