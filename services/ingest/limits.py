"""What one caller may take: requests per minute, uploads at once, and a least rate for bodies."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from time import monotonic, time

import aiohttp
from aiohttp import web
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from services.contracts.errors import Code, Problem
from services.ingest.settings import Settings
from services.ingest.uploads import too_large

SHORT = 4 << 20
"""Bytes of a body up to which somebody who waits for its words is in a hurry."""
HURRY = 5.0
"""Seconds for which that is so."""
LARGE = 32 << 20
"""Bytes of a body after which it lets those go first who are in a hurry."""
GIVING_WAY = 16 << 20
"""Bytes a second that it is given meanwhile. At full speed it would take a small machine for itself: its client's, our
and the store's work on each byte, and a synced write every few megabytes."""


class RateLimits:
    """Requests per tenant and per share, and refusals per address.

    Counted per ingest process, in constant memory per caller.
    """

    def __init__(self, settings: Settings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._requests = parse(settings.rate_limit)
        self._refusals = parse(settings.refusal_limit)
        self._shared = parse(settings.share_limit)

    async def request(self, tenant: str) -> None:
        """Count a request of a tenant. Raises `Problem` RATE_LIMIT."""
        if not await self._limiter.hit(self._requests, "tenant", tenant):
            raise await self._refuse(self._requests, "tenant", tenant)

    async def shared(self, share: str) -> None:
        """Count a request by the link of a share. Raises `Problem` RATE_LIMIT."""
        if not await self._limiter.hit(self._shared, "share", share):
            raise await self._refuse(self._shared, "share", share)

    async def refused(self, address: str) -> None:
        """Count a missing or wrong key of an address. Raises `Problem` RATE_LIMIT when there were too many."""
        if not is_loopback(address) and not await self._limiter.hit(self._refusals, "address", address):
            raise await self._refuse(self._refusals, "address", address)

    async def _refuse(self, limit: RateLimitItem, *who: str) -> Problem:
        reset, _ = await self._limiter.get_window_stats(limit, *who)
        return Problem(
            Code.RATE_LIMIT, f"At most {limit.amount} per {limit.GRANULARITY.name}.", retry_after=reset - time()
        )


class Bodies:
    """Bodies under way: so many at once, no more than a quarter of one tenant's, none too slow, none too large.

    A large one makes way for short ones whose senders wait for the words.
    """

    def __init__(
        self,
        settings: Settings,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._hurried: dict[object, float] = {}
        self._most = settings.max_uploads
        self._under_way: Counter[str] = Counter()
        self._grace = settings.upload_grace
        self._rate = settings.upload_rate
        self.largest = settings.max_upload

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Hold a place for an upload. Raises `Problem` RATE_LIMIT when all, or all for one tenant, are taken."""
        if self._under_way.total() >= self._most or self._under_way[tenant] >= max(1, self._most // 4):
            raise Problem(Code.RATE_LIMIT, "Too many uploads are under way.", retry_after=5)
        self._under_way[tenant] += 1
        try:
            yield
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant]

    @contextmanager
    def waited_for(self, request: web.Request) -> Iterator[None]:
        """Let this request, if its body is short, go before large bodies, from its first byte to its answer."""
        if not 0 < (request.content_length or 0) <= SHORT:
            yield
            return
        it = object()
        self._hurried[it] = self._clock() + HURRY
        try:
            yield
        finally:
            del self._hurried[it]

    async def _give_way(self, size: int) -> None:
        now = self._clock()
        if any(until > now for until in self._hurried.values()):
            await self._sleep(size / GIVING_WAY)

    async def body(self, request: web.Request, most: int) -> AsyncIterator[bytes]:
        """The request's body as it comes in.

        aiohttp closes a connection whose headers drip, never one whose body drips. Only the time that we wait for the
        client counts: a slow store is not the client's fault. Raises `Problem` UPLOAD_SLOW, TOO_LARGE, LENGTH_MISMATCH.
        """
        await _say_continue(request)
        loop = asyncio.get_running_loop()
        received, waited = 0, 0.0
        while True:
            # A fast client may pause, but not for as long as all its speed would have earned it.
            patience = min(3 * self._grace, self._grace + received / self._rate - waited)
            begun = loop.time()
            try:
                try:
                    async with asyncio.timeout(patience):
                        data = await request.content.readany()
                except TimeoutError:
                    # What came while this process itself stood still is here by now.
                    data = request.content.read_nowait()
                    if not data and not request.content.at_eof():
                        raise Problem(Code.UPLOAD_SLOW, f"Less than {self._rate} bytes/s came in.") from None
            except (
                aiohttp.ClientError,
                aiohttp.http_exceptions.HttpProcessingError,
                ConnectionError,
                web.RequestPayloadError,
            ):
                raise Problem(Code.LENGTH_MISMATCH) from None
            if not data:
                return
            waited += min(loop.time() - begun, max(0.0, patience))
            received += len(data)
            if received > most:
                raise too_large(self.largest)
            if received > LARGE and self._hurried:
                await self._give_way(len(data))
            yield data

    async def small(self, request: web.Request, most: int = 1 << 20) -> bytes:
        """A small body, whole."""
        if (request.content_length or 0) > most:
            raise too_large(most)
        return b"".join([data async for data in self.body(request, most)])


async def expect(request: web.Request) -> None:
    """Leave `Expect: 100-continue` unanswered until the body is wanted: a request that is refused sends none."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def _say_continue(request: web.Request) -> None:
    if "Expect" in request.headers and request.version >= (1, 1) and request.can_read_body:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # this was not yet the answer


def is_loopback(address: str) -> bool:
    """Whether this is the machine itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def address_of(request: web.Request, proxies: Collection[str]) -> str:
    """The client's address: the last hop of X-Forwarded-For that is no proxy of ours, if a proxy of ours asks.

    A proxy on this machine is one of ours: its clients must not pass for the machine itself, which has no limits.
    """
    address = request.remote or ""
    hops = [hop.strip() for header in request.headers.getall("X-Forwarded-For", ()) for hop in header.split(",")]
    while hops and (address in proxies or is_loopback(address)):
        address = hops.pop()
    return address
