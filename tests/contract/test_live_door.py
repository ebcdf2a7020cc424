"""The live door on a real bus without an engine: who may begin, who may write, and where a session is gone on with."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import Claims as Who
from services.contracts.errors import Code, Problem
from services.contracts.events import EngineCard, ModelCard
from services.contracts.ids import new_job_id
from services.contracts.live import OFFSET, OP, LiveCard, Op, Quiet, Resume, Start
from services.ingest.engines import Engines
from services.ingest.http.call import Call
from services.ingest.live import LASTS, LiveDoor
from services.ingest.settings import Settings
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import Tasks
from tests.contract.ingest_support import Ingest
from tests.support import operator_of

CARD = EngineCard(
    id="e",
    device="cpu",
    engine="digest",
    slots=1,
    live=LiveCard(capacity=1, sessions=0),
    models=(ModelCard(name="base", available=True, loaded=True),),
)
SOON = 3.0
"""Seconds in which a socket that only listens is told; it looks twice a second."""


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[Bus]:
    """The operator, who may do what engines do, and break the bus."""
    async with connect_bus(operator_of(stack)) as bus:
        yield bus


@asynccontextmanager
async def open_door(ingest: Ingest, admin: Bus) -> AsyncIterator[LiveDoor]:
    """A door beside an engine with room for one session."""
    await admin.js.purge_stream(subjects.LIVE)
    await admin.kv(subjects.ENGINES).put(CARD.id, CARD.encode())
    settings = Settings(nats_url="", store_access_key="")
    async with Tasks(asyncio.Event()) as tasks:
        engines = Engines(ingest.bus, tasks)
        yield LiveDoor(ingest.bus, ingest.blobs, ingest.records, engines, ingest.quota, settings)


class Socket:
    """What a client is told on one socket, and what it does there."""

    def __init__(self, door: LiveDoor, bus: Bus, who: Who) -> None:
        self.told: list[dict[str, Any]] = []
        self.call = Call(door, bus, who, self._hear, lambda encoding: Start(encoding=encoding), plain=False)

    async def _hear(self, text: str) -> None:
        self.told.append(json.loads(text))

    @property
    def session(self) -> str:
        """The session that it was told of."""
        return str(self.told[0]["session_id"])

    async def fault(self) -> BaseException | None:
        """Why the socket is to be closed."""
        async with asyncio.timeout(SOON):
            await asyncio.wait([self.call.over])
        return self.call.over.exception()


async def test_a_session_that_ended_long_ago_makes_no_room(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Its end stays on the stream for longer than its beginning; what is taken are the sessions that have not ended."""
    async with open_door(ingest, admin) as door:
        await admin.append(subjects.live_done(new_job_id()), b"", 0)
        await door.open(who, Start())
        with pytest.raises(Problem) as refused:
            await door.open(who, Start())
        assert refused.value.code is Code.NO_ROOM


async def test_a_socket_that_only_listens_hears_that_another_goes_on(ingest: Ingest, admin: Bus, who: Who) -> None:
    """The socket before is told of it though it writes nothing; the one that goes on is not, however long it writes."""
    async with open_door(ingest, admin) as door:
        first, second = Socket(door, ingest.bus, who), Socket(door, ingest.bus, who)
        await first.call.start(Start())
        await first.call.audio(bytes(3200))
        await second.call.resume(Resume(session_id=first.session))
        try:
            fault = await first.fault()
            assert isinstance(fault, Problem)
            assert fault.code is Code.TAKEN
            with pytest.raises(Problem, match="session_taken"):  # not even what it had learnt lets it write again
                await first.call.audio(bytes(3200))
            for _ in range(30):
                await second.call.audio(bytes(3200))
                await asyncio.sleep(0.05)
            assert not second.call.over.done()
        finally:
            await first.call.leave()
            await second.call.leave()


async def test_a_cursor_of_a_lost_stream_begins_anew(ingest: Ingest, admin: Bus, who: Who) -> None:
    """When the bus has lost the stream a socket is told to resume, and its old cursor then skips nothing."""
    async with open_door(ingest, admin) as door:
        it = Socket(door, ingest.bus, who)
        await it.call.start(Start())
        try:
            said = await admin.append(subjects.live_out(it.session), b'{"type": "quiet", "position": 0}', 0)
            async with asyncio.timeout(SOON):
                while len(it.told) < 2:
                    await asyncio.sleep(0.02)
            cursor = it.told[1]["cursor"]
            assert await door.after(cursor) == said
            await it.call.audio(bytes(3200))
            await admin.js.delete_stream(subjects.LIVE)
            await admin.ensure_streams()
            assert isinstance(await it.fault(), Unavailable)
            assert await door.after(cursor) == 0
            # It is not as if it had never been: until it is there again its client tries again.
            with pytest.raises(Unavailable):
                await door.resume(who, it.session)
            await ingest.jobs.cancel_or_erase(who.tenant, it.session)
            with pytest.raises(Problem, match="session_ended"):
                await door.resume(who, it.session)
            with pytest.raises(Problem, match="job_not_found"):
                await door.resume(await ingest.sign_up(), it.session)
        finally:
            await it.call.leave()


async def test_a_session_does_not_last_for_ever(ingest: Ingest, admin: Bus, who: Who) -> None:
    """One that is kept alive for a day is ended by the clock, and whoever speaks on is told so."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        await door.write(line, bytes(3200))
        line.session = line.session.model_copy(update={"opened": line.session.opened - LASTS})
        await door.say(line, Op.BEAT)
        with pytest.raises(Problem, match="session_ended"):
            await door.write(line, bytes(3200))
        last = await admin.js.get_last_msg(subjects.LIVE, subjects.live_audio(line.session.session), direct=True)
        assert last.headers is not None
        assert (last.headers[OP], last.headers[OFFSET]) == (Op.END, "3200")


async def test_a_session_that_is_cancelled_costs_what_was_heard(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Whoever has read the words of a session cannot have them for nothing by cancelling it in the end."""
    async with open_door(ingest, admin) as door:
        session = (await door.open(who, Start())).session.session
        await admin.append(subjects.live_out(session), Quiet(position=42.5).encode(), 0)
        await ingest.jobs.cancel_or_erase(who.tenant, session)
        outcome = await ingest.records.outcome(who.tenant, session)
        assert outcome is not None
        assert outcome.seconds == 42.5
