"""Streamed results through what breaks them: killed processes, a lost stream, a service that stops, several ingests."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.stream import Cursor
from services.runtime.blobs import open_blobs
from services.runtime.bus import connect_bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import cancel
from services.runtime.records import Records
from tests import media
from tests.doors.caller import Caller, Front
from tests.doors.watcher import PATIENCE, heard, parts, refused, socket, sse, ticket
from tests.support import operator_of

GONE = (aiohttp.ClientError, ConnectionError, TimeoutError, AssertionError)
"""What a client meets when the service is killed under it."""


@pytest.fixture(scope="module")
async def own(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    """A front of one's own to break: two ingests, and an engine that answers with sums."""
    parts_of = {"DESIFRE_PART_SECONDS_FIRST": "10", "DESIFRE_PART_SECONDS_MIN": "10", "DESIFRE_PART_SECONDS_MAX": "30"}
    settings = {
        "ingest": {"DESIFRE_RECONCILE_EVERY": "0.5"},
        "transcriber": {"DESIFRE_ENGINE": "digest", **parts_of},
    }
    async with (
        Stack(tmp_path_factory.mktemp("own"), settings=settings) as stack,
        aiohttp.ClientSession() as session,
    ):
        await stack.add("ingest")
        operator = operator_of(stack)
        async with connect_bus(operator) as bus, open_blobs(operator) as blobs:
            yield Front(stack, Caller(session, stack.http_url), bus, blobs, Records(bus, blobs))


def second(own: Front) -> str:
    """Address of the other ingest."""
    return f"http://127.0.0.1:{own.stack.wiring.ports['ingest-2']}"


async def waiting_job(own: Front, me: Caller) -> tuple[str, str]:
    """A job that no engine ever ends; its tenant and its id."""
    await own.stack.process("transcriber").stop()
    job = await me.submit(b"sound")
    return await own.tenant_of(job), job


async def test_words_come_as_the_engine_hears_them(own: Front) -> None:
    """Of a real job every part's words come once, before its last state, and are those of the transcript."""
    me = await own.nobody.sign_up()
    recording = media.encode(media.talk(45.0, seed=5), "flac")
    async with socket(me) as it:
        await it.watch("all")
        job = await me.submit(recording)
        events = await it.to_the_end()
    assert events[-1]["data"]["state"] == "completed"
    heard_parts = parts(events)
    assert sorted(heard_parts) == list(range(events[-1]["data"]["parts"]))
    by_part = sorted((event["data"] for event in events if event["kind"] == "segments"), key=lambda data: data["part"])
    result = (await me("GET", f"/jobs/{job}/result")).json()
    said = [segment["text"] for data in by_part for segment in data["segments"]]
    assert said == [segment["text"] for segment in result["segments"]]
    assert said
    progress = [event["data"]["progress"] for event in events if event["kind"] == "state"]
    assert progress == sorted(progress)


async def test_a_ticket_is_good_at_one_ingest_alone(own: Front) -> None:
    """A ticket shown to two ingests at the same moment opens one socket, and which of them made it does not matter."""
    me = await own.nobody.sign_up()
    nobody = Caller(me.session, me.base)
    for _ in range(5):
        shown = await ticket(me)

        async def opens(base: str, path: str = f"/ws/{shown}") -> bool:
            try:
                async with socket(nobody, path, base):
                    return True
            except aiohttp.WSServerHandshakeError as error:
                return error.status != 403

        opened = await asyncio.gather(*(opens(base) for base in (me.base, second(own)) * 2))
        assert opened.count(True) == 1
        assert await refused(nobody, f"/ws/{shown}", second(own)) == (403, "ticket_invalid")


class Reader:
    """A client that reads a job for ever, from its last cursor on, at whichever ingest is there."""

    def __init__(self, me: Caller, bases: tuple[str, ...], job: str) -> None:
        self._me = me
        self._bases = bases
        self._job = job
        self.events: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.connections = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            base = self._bases[self.connections % len(self._bases)]
            self.connections += 1
            try:
                async with socket(self._me, base=base) as it:
                    begun = await it.watch(self._job, self.events[-1]["cursor"] if self.events else None)
                    assert begun["type"] == "watching"
                    while True:
                        self.events += await it.events(1)
                        self.came.set()
            except GONE:
                await asyncio.sleep(0.02)

    async def until(self, part: int) -> None:
        """Until these words were read."""
        async with asyncio.timeout(3 * PATIENCE):
            while part not in parts(self.events[-1:]):
                self.came.clear()
                await self.came.wait()


async def test_nothing_is_missed_or_repeated_when_ingests_are_killed(own: Front) -> None:
    """With every ingest killed again and again, a reader that comes back with its cursor has each event once."""
    me = await own.nobody.sign_up()
    tenant, job = await waiting_job(own, me)
    reader = Reader(me, (me.base, second(own)), job)
    task = asyncio.create_task(reader.run(), name="reader")
    count = 0
    try:
        for n in range(6):
            for _ in range(25):
                await heard(own.bus, tenant, job, count)
                count += 1
            if n % 2:
                await reader.until(count - 1)  # else it is killed in the middle of it
            target = own.stack.process(("ingest", "ingest-2")[n % 2])
            await target.wait_ready()
            target.kill()
        await reader.until(count - 1)
    finally:
        await cancel(task)
    assert parts(reader.events) == list(range(count))
    assert reader.connections > 1
    await own.stack.wait_all_ready()


async def test_the_bus_away_and_back(own: Front) -> None:
    """While the bus is killed and started again a socket stays open, and nothing is missed or repeated."""
    await own.stack.wait_all_ready()  # the test before killed ingests
    me = await own.nobody.sign_up()
    tenant, job = await waiting_job(own, me)
    async with socket(me) as it:
        await it.watch(job)
        events = await it.events(1)
        for part in range(0, 20, 10):
            for n in range(part, part + 10):
                await heard(own.bus, tenant, job, n)
            nats = own.stack.process("nats")
            run = nats.runs
            nats.kill()
            await nats.wait_run(run + 1)
            await own.stack.wait_all_ready()
            await there(own)
        await heard(own.bus, tenant, job, 20)
        events += await it.events(21)
    assert parts(events) == list(range(21))


async def there(own: Front) -> None:
    """Wait until the bus answers us again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await own.bus.ping()
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_stream_made_anew_is_told_from_its_start(own: Front) -> None:
    """When the stream of results is lost, watches begin anew on what is made of it, and old cursors mean the start."""
    me = await own.nobody.sign_up()
    tenant, job = await waiting_job(own, me)
    for part in range(3):
        await heard(own.bus, tenant, job, part)
    async with socket(me) as it:
        await it.watch(job)
        old = await it.events(4)
        await own.bus.js.delete_stream(subjects.RESULTS)
        begun = await it.next()
        assert (begun["type"], begun["after"], begun["job"]["state"]) == ("watching", None, "accepted")
        [state] = await it.events(1)
        assert (state["kind"], state["data"]) == ("state", old[0]["data"])
        await heard(own.bus, tenant, job, 7)
        new = [state, *await it.events(1)]
        await it.quiet()
    assert parts(new) == [7]
    epochs = [{Cursor.parse(event["cursor"]).epoch for event in events} for events in (old, new)]
    assert len(epochs[0]) == len(epochs[1]) == 1
    assert epochs[0] != epochs[1]
    for path in (me.base, second(own)):
        async with socket(me, base=path) as it:
            assert (await it.watch(job, after=old[-1]["cursor"]))["after"] is None
            assert await it.events(2) == new
            assert (await it.watch(job, after=new[0]["cursor"]))["after"] == new[0]["cursor"]
            assert await it.events(1) == new[1:]


async def test_a_stop_says_so_and_closes(own: Front) -> None:
    """An ingest that is stopped tells its sockets and responses that it goes, so that they come back elsewhere."""
    await own.stack.wait_all_ready()
    me = await own.nobody.sign_up()
    _, job = await waiting_job(own, me)
    async with socket(me) as it:
        await it.watch(job)
        await it.events(1)
        reading = sse(me, job)
        assert [(await anext(reading))[0] for _ in range(2)] == ["watching", "state"]
        ingest = own.stack.process("ingest")
        run = ingest.runs
        ingest.kill(signal.SIGTERM)  # as `stop` does, which has less patience with a busy machine
        assert await it.next() == {"type": "closing", "code": 1001, "reason": "stopping"}
        assert await it.closed() == 1001
        assert [(name, data["code"]) async for name, _, data in reading] == [("closing", 1001)]
    assert await ingest.wait_exit(run) == 0
