"""Following jobs on a real bus: whatever the relay does not hear is read from the stream, once and in order."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.events import Record, SegmentsEvent
from services.contracts.ids import new_job_id, new_tenant
from services.contracts.jobs import Door, Lane, State, Timings
from services.contracts.stream import ALL, Cursor
from services.contracts.transcript import Segment
from services.ingest.feed import BATCH, Begun, Feed, TooSlow
from services.ingest.follow import Backlog, Heard
from services.ingest.relay import Relay
from services.runtime.lifecycle import cancel
from tests.contract.ingest_support import Ingest, open_ingest, settings_of

ROOM = 1 << 20
STATE = -1
"""In place of a part's number."""


class Ear:
    """A relay that hears what a test lets it hear."""

    def __init__(self, ingest: Ingest) -> None:
        self._bus = ingest.bus
        self.relay = Relay(ingest.bus, ingest.records, asyncio.Event())
        self._feed = Feed(ingest.bus, self.relay, ingest.jobs)
        self._tenant = new_tenant()
        self._came: asyncio.Queue[Msg] = asyncio.Queue()

    async def come(self, message: Msg) -> None:
        """Take what the bus relays; it is not heard yet."""
        if f".{self._tenant}." in message.subject:
            await self._came.put(message)

    async def job(self, state: State = State.ACCEPTED) -> str:
        """A job in this state, whose event was heard."""
        record = Record(
            job=new_job_id(),
            tenant=self._tenant,
            key_id="k",
            door=Door.HTTP,
            lane=Lane.BATCH,
            model="base",
            state=state,
            timings=Timings(accepted=1.0),
        )
        await self._bus.kv(subjects.RECORDS).put(subjects.record(self._tenant, record.job), record.encode())
        await self.hear()
        return record.job

    async def words(self, job: str, *parts: int, size: int = 1) -> None:
        """The words of parts, published and relayed, and not heard yet."""
        segments = (Segment(start=0, end=1, text="x" * size),)
        for part in parts:
            event = SegmentsEvent(job=job, part=part, start=0, end=1, segments=segments)
            await self._bus.publish(subjects.segments(self._tenant, job), event)

    async def hear(self, *, drop: bool = False) -> None:
        """Hear the next event that was relayed, or lose it."""
        message = await asyncio.wait_for(self._came.get(), 60)
        if not drop:
            await self.relay.hear(message)

    def follow(self, job: str, after: Cursor | None = None, room: int = ROOM) -> AsyncGenerator[Begun | Heard, None]:
        return self._feed.follow(self._tenant, job, after, Backlog(room))


async def take(items: AsyncIterator[Begun | Heard], count: int) -> list[int]:
    """The next so many events."""
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            item = await anext(items)
            if isinstance(item, Heard):
                found.append(STATE if item.record else SegmentsEvent.model_validate_json(item.data).part)
    return found


@pytest.fixture(scope="module")
async def ingest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ingest]:
    async with Stack(tmp_path_factory.mktemp("stack"), services=["nats", "s3"]) as stack:
        admin = {"nats_user": "admin", "nats_password": SecretStr(stack.nats_password())}
        async with open_ingest(settings_of(stack).model_copy(update=admin)) as ingest:
            yield ingest


@pytest.fixture
async def ear(ingest: Ingest) -> AsyncIterator[Ear]:
    """An ear, beside which nothing else happens on the bus."""
    ear = Ear(ingest)
    subscription = await ingest.bus.nc.subscribe(f"{subjects.RELAY}.{subjects.ALL_RESULTS}", cb=ear.come)
    await ingest.bus.nc.flush()
    yield ear
    await subscription.unsubscribe()


@pytest.mark.parametrize("whose", ["one", ALL])
async def test_a_gap_is_read_from_the_stream(ear: Ear, whose: str) -> None:
    """An event that was lost on its way is noticed by the next one, and handed out before it."""
    job = await ear.job()
    async with aclosing(ear.follow(job if whose == "one" else ALL)) as items:
        assert isinstance(await anext(items), Begun)
        if whose == "one":
            assert await take(items, 1) == [STATE]
        following = asyncio.create_task(take(items, 4), name="take")
        await ear.words(job, 0, 1, 2, 3)
        await ear.hear()
        await ear.hear(drop=True)
        await ear.hear(drop=True)
        await ear.hear()
        assert await following == [0, 1, 2, 3]


async def test_a_lost_end_is_read_from_the_stream(ear: Ear) -> None:
    """The last event, after which none comes to show that it was lost, is missed by who looks how far the stream is."""
    job = await ear.job()
    async with aclosing(ear.follow(job)) as items:
        assert await take(items, 1) == [STATE]
        minding = asyncio.create_task(ear.relay.mind(), name="mind")
        following = asyncio.create_task(take(items, 2), name="take")
        await ear.words(job, 0, 1)
        await ear.hear()
        await ear.hear(drop=True)
        assert await following == [0, 1]
        await cancel(minding)


async def test_who_is_slow_is_told_where_to_go_on(ear: Ear) -> None:
    """Over its room a watch ends at the last event that was taken, from which another one misses nothing."""
    job = await ear.job()
    cursor = None
    async with aclosing(ear.follow(job, room=3000)) as items:
        assert await take(items, 1) == [STATE]
        following = asyncio.create_task(anext(items), name="take")
        await ear.words(job, *range(6), size=1000)
        for _ in range(6):
            await ear.hear()
        first = await following
        assert isinstance(first, Heard)
        with pytest.raises(TooSlow) as slow:
            await take(items, 6)
        cursor = slow.value.after
        assert cursor == first.cursor
    async with aclosing(ear.follow(job, cursor)) as items:
        assert await take(items, 5) == [1, 2, 3, 4, 5]


async def test_a_long_past_is_read_at_the_readers_pace(ear: Ear) -> None:
    """While the past is read more may come than there is room for: it is read as well, and nobody is told to hurry."""
    job = await ear.job()
    past, more = BATCH + 20, 30
    await ear.words(job, *range(past))
    for _ in range(past):
        await ear.hear()
    async with aclosing(ear.follow(job, room=500)) as items:
        assert await take(items, 10) == [STATE, *range(9)]
        await ear.words(job, *range(past, past + more), size=400)
        for _ in range(more):
            await ear.hear()
        assert await take(items, past + more - 9) == list(range(9, past + more))


async def test_it_ends_with_the_job(ear: Ear) -> None:
    """A watch of a job that has ended tells its events and ends; after the last of them there is nothing to tell."""
    job = await ear.job(State.FAILED)
    async with aclosing(ear.follow(job)) as items:
        begun, last = [item async for item in items]
    assert isinstance(begun, Begun)
    assert begun.after is None
    assert isinstance(last, Heard)
    async with aclosing(ear.follow(job, last.cursor)) as items:
        [again] = [item async for item in items]
    assert isinstance(again, Begun)
    assert again.after == last.cursor
    assert again.record == last.record
