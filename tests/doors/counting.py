"""Counts what a service asks of the store: a relay of bytes between the two that reads the requests' first lines."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_LINE = re.compile(rb"(GET|PUT|HEAD|POST|DELETE) /([^ ]*) HTTP/1\.1\r\n")
_LONGEST = 4096
LISTING = "GET list"


class Counting:
    """`requests` by method and what they are about: `GET list`, `PUT jobs/source`, `HEAD drop/in`, ….

    `endpoint` is where the service finds the store; `target()` says where the store is by then.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: Counter[str] = Counter()
        self.target: Callable[[], str] = lambda: ":0"

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for as long as both ends have it."""
        host, port = self.target().split(":")
        with suppress(OSError):
            theirs, ours = await asyncio.open_connection(host, int(port))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, ours, self._count))
                    group.create_task(self._pump(theirs, writer, lambda _: None))
            except* OSError:
                pass
            finally:
                ours.close()
        writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, see: Callable[[bytes], None]
    ) -> None:
        while data := await source.read(1 << 16):
            see(data)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    def _count(self, data: bytes) -> None:
        # A request begins with its own piece: a client waits for the answer before it sends the next.
        if found := _LINE.match(data[:_LONGEST]):
            self.requests[kind_of(found[1].decode(), found[2].decode())] += 1


def kind_of(method: str, path: str) -> str:
    """What a request is about, without anybody's names."""
    name, _, query = path.partition("?")
    if "list-type=2" in query:
        return LISTING
    steps = name.split("/")
    if steps[0] == "desifre" and len(steps) > 4:
        return f"{method} jobs/{steps[4] if len(steps) == 5 else steps[4] + '/'}"
    return f"{method} {steps[0]}/{steps[2]}" if len(steps) > 2 else f"{method} {steps[0]}"


@asynccontextmanager
async def counting() -> AsyncIterator[Counting]:
    """A relay that counts; say its `target` before the first request comes."""
    counter = Counting()
    server = await asyncio.start_server(counter.relay, "127.0.0.1", 0)
    counter.endpoint = "{}:{}".format(*server.sockets[0].getsockname())
    try:
        yield counter
    finally:
        server.close()
