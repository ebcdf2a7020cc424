"""Following a subject on a real bus: each message once, in order, whatever the relay loses."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.contracts import subjects
from services.contracts.ids import new_job_id
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import read_last
from services.runtime.kv import Conflict
from services.runtime.settings import Settings
from services.runtime.tail import BATCH, ROOM, Tail
from tests.support import NatsServer


@pytest.fixture(scope="module")
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    settings = Settings(nats_url=nats_server.url, nats_user="ingest", nats_password=nats_server.users["ingest"])
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()
        yield bus


@pytest.fixture
def subject() -> str:
    """The input of a session of its own."""
    return subjects.live_audio(new_job_id())


async def say(bus: Bus, subject: str, *said: bytes, last: int = 0) -> int:
    """Append messages one after the other; the sequence of the last."""
    for one in said:
        last = await bus.append(subject, one, last)
    return last


async def take(tail: Tail, count: int) -> list[bytes]:
    """The next so many messages."""
    found: list[bytes] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            found += [entry.data for entry in await tail.next(1.0)]
    return found


async def test_what_is_stored_and_what_comes_is_one(bus: Bus, subject: str) -> None:
    """More than one batch of stored messages, then those that come: none is missing, none comes twice."""
    words = [str(n).encode() for n in range(BATCH + 30)]
    last = await say(bus, subject, *words[: BATCH + 10])
    async with Tail(bus.nc, subjects.LIVE, subject) as tail:
        assert await take(tail, BATCH + 10) == words[: BATCH + 10]
        following = asyncio.create_task(take(tail, 20), name="take")
        await say(bus, subject, *words[BATCH + 10 :], last=last)
        assert await following == words[BATCH + 10 :]
        assert await tail.next(0.05) == []


async def test_it_goes_on_from_a_sequence(bus: Bus, subject: str) -> None:
    """Who has heard some of it gets what follows, and headers of the publisher as well as of the stream."""
    first = await say(bus, subject, b"a")
    second = await bus.append(subject, b"b", first, {"Desifre-Offset": "7"})
    async with Tail(bus.nc, subjects.LIVE, subject, after=first) as tail:
        [stored] = await tail.next(60)
        third = await bus.append(subject, b"c", second, {"Desifre-Offset": "8"})
        [relayed] = await tail.next(60)
    assert (stored.sequence, stored.data, stored.headers["Desifre-Offset"]) == (second, b"b", "7")
    assert (relayed.sequence, relayed.data, relayed.headers["Desifre-Offset"]) == (third, b"c", "8")


async def test_a_slow_reader_holds_little_and_misses_nothing(bus: Bus, subject: str) -> None:
    """What comes while nobody reads is kept up to a bound; the rest is read from the stream."""
    async with Tail(bus.nc, subjects.LIVE, subject) as tail:
        assert await tail.next(0.05) == []
        words = [bytes([n]) * (200 << 10) for n in range(12)]
        last = await say(bus, subject, *words)
        assert sum(len(entry.data) for entry in tail._came) <= ROOM + len(words[0])
        assert await take(tail, len(words)) == words
        await say(bus, subject, b"end", last=last)
        assert await take(tail, 1) == [b"end"]


async def test_a_lost_last_message_is_read(bus: Bus, subject: str) -> None:
    """A message whose relay was lost, and after which none comes to show it, is found all the same."""
    async with Tail(bus.nc, subjects.LIVE, subject) as tail:
        assert await tail.next(0.05) == []
        assert tail._relay is not None
        await tail._relay.unsubscribe()
        await say(bus, subject, b"a")
        assert await take(tail, 1) == [b"a"]


async def test_two_writers_cannot_both_go_on(bus: Bus, subject: str) -> None:
    """Of two that know the same last message one is refused; what a rollup leaves is one message."""
    first = await say(bus, subject, b"a")
    second = await say(bus, subject, b"b", last=first)
    with pytest.raises(Conflict):
        await say(bus, subject, b"c", last=first)
    with pytest.raises(Conflict):
        await say(bus, subject, b"c")
    third = await bus.append(subject, b"", second, {"Nats-Rollup": "sub"})
    assert await bus.counts(subjects.LIVE, subject) == {subject: 1}
    found = await read_last(bus.nc, subjects.LIVE, subject)
    assert found is not None
    assert (found.headers or {})["Nats-Sequence"] == str(third)
