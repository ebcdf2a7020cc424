"""The live door on a real bus without an engine: who may begin, who may write, and where a session is gone on with."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import Claims as Who
from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.events import EngineCard, ModelCard
from services.contracts.ids import new_job_id
from services.contracts.live import OFFSET, OP, Ended, Lease, LiveCard, Op, Quiet, Resume, Session, Start
from services.ingest.engines import Engines
from services.ingest.http.call import TELL, Call
from services.ingest.line import LASTS, Line
from services.ingest.live import LEAVING, LiveDoor
from services.ingest.settings import Settings
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import Tasks
from services.transcriber.live.holder import this_process
from services.transcriber.live.load import Load
from services.transcriber.live.session import LiveSession
from services.transcriber.live.sessions import Sessions
from tests.contract.ingest_support import Ingest
from tests.engine_support import engine_of
from tests.support import operator_of

CARD = EngineCard(
    id="e",
    device="cpu",
    engine="digest",
    slots=1,
    live=LiveCard(capacity=1, sessions=0),
    models=(ModelCard(name="base", available=True, loaded=True),),
)
SOON = 30.0
"""Seconds in which a socket that only listens is told; it looks twice a second."""


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[Bus]:
    """The operator, who may do what engines do, and break the bus."""
    async with connect_bus(operator_of(stack)) as bus:
        yield bus


@asynccontextmanager
async def open_door(ingest: Ingest, admin: Bus, *, fresh: bool = True) -> AsyncIterator[LiveDoor]:
    """A door beside an engine with room for one session; `fresh`: without any that began before."""
    if fresh:
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


async def test_the_place_of_one_who_just_leaves_is_waited_for(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Whoever begins again right after the summary is not told to come back in a quarter of a minute."""
    async with open_door(ingest, admin) as door:
        before = (await door.open(who, Start())).session.session

        async def leave() -> None:
            await asyncio.sleep(LEAVING[0] / 2)
            await admin.append(subjects.live_done(before), b"", 0)

        line, _ = await asyncio.gather(door.open(who, Start()), leave())
        assert line.session.session != before


async def write_on(line: Line) -> None:
    """Until it is refused."""
    while True:
        await line.write(b"")
        await asyncio.sleep(0.05)


async def test_two_that_begin_at_once_do_not_share_a_room(ingest: Ingest, admin: Bus, who: Who) -> None:
    """One of them has it; the other is told so, instead of waiting unheard."""
    async with open_door(ingest, admin) as door:
        found = await asyncio.gather(*(door.open(who, Start()) for _ in range(2)), return_exceptions=True)
        refused = [one for one in found if isinstance(one, BaseException)]
        assert [one.code for one in refused if isinstance(one, Problem)] == [Code.NO_ROOM]


async def test_a_full_bus_takes_in_no_more(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Where audio has filled the stream none is taken that could not be ended, and no session begins."""
    live = (await admin.js.stream_info(subjects.LIVE)).config
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        await line.write(bytes(100_000))
        used = (await admin.js.stream_info(subjects.LIVE)).state.bytes
        try:
            await admin.js.update_stream(live.evolve(max_bytes=int(used * 1.05)))
            async with open_door(ingest, admin, fresh=False) as another:
                with pytest.raises(Problem, match="unavailable"):
                    await another.resume(who, line.session.session)
                with pytest.raises(Problem, match="unavailable"):
                    await asyncio.wait_for(write_on(line), SOON)
                await admin.append(subjects.live_done(line.session.session), b"", 0)
                with pytest.raises(Problem, match="no_room_for_live"):
                    await another.open(who, Start())
        finally:
            await admin.js.update_stream(live)


async def test_a_session_has_no_more_than_it_may(ingest: Ingest, admin: Bus, who: Who) -> None:
    """What is sent beyond its longest time is refused by the door, however far behind the engine is."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        line.session = line.session.model_copy(update={"max_seconds": 0.15})
        with pytest.raises(Problem, match="session_ended"):
            await line.write(bytes(9600))
        last = await admin.js.get_last_msg(subjects.LIVE, subjects.live_audio(line.session.session), direct=True)
        assert last.headers is not None
        assert (last.headers[OP], last.headers[OFFSET]) == (Op.LIMIT, "4800")


async def test_an_operation_that_came_late_is_ones_own(ingest: Ingest, admin: Bus, who: Who) -> None:
    """A keepalive that was given up for lost, and is stored all the same, takes the session from nobody."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        await line.write(bytes(3200))
        subject = subjects.live_audio(line.session.session)
        last = await admin.js.get_last_msg(subjects.LIVE, subject, direct=True)
        headers = {name: value for name, value in (last.headers or {}).items() if name.startswith("Desifre-")}
        await admin.append(subject, b"", last.seq or 0, headers | {OP: Op.BEAT, OFFSET: "3200"})
        assert await line.check()
        await line.write(bytes(1600))
        assert line.received == 4800


async def test_who_may_not_speak_may_not_speak_on(ingest: Ingest, admin: Bus, who: Who) -> None:
    """A key that cannot begin a session cannot take over another key's."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        listener = who.model_copy(update={"scopes": frozenset({Scope.STREAM})})
        with pytest.raises(Problem, match="scope"):
            await door.resume(listener, line.session.session)


async def test_a_session_of_which_nobody_learns_is_over(ingest: Ingest, admin: Bus, who: Who) -> None:
    """A socket that breaks before it was told of its session takes no room, nor does one that is gone for good."""
    async with open_door(ingest, admin) as door:

        async def broken(_: str) -> None:
            raise ConnectionResetError

        async def ends() -> list[str]:
            found = await admin.counts(subjects.LIVE, subjects.live_audio("*"))
            lasts = [await admin.js.get_last_msg(subjects.LIVE, subject, direct=True) for subject in found]
            return [(last.headers or {}).get(OP, "") for last in lasts]

        lost = Call(door, ingest.bus, who, broken, lambda encoding: Start(encoding=encoding), plain=False)
        with pytest.raises(ConnectionResetError):
            await lost.start(Start())
        assert await ends() == [Op.END]
        await admin.js.purge_stream(subjects.LIVE)
        it = Socket(door, ingest.bus, who)
        await it.call.audio(bytes(3200))
        await it.call.leave(for_good=True)
        assert await ends() == [Op.END]


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
                while it.told[-1]["type"] != "quiet":
                    await asyncio.sleep(0.02)
            cursor = it.told[-1]["cursor"]
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


async def test_a_first_word_at_the_moment_of_a_look(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Where nothing was on the bus a moment ago, and something is now, the session is there as before."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        looked, _ = await asyncio.gather(line.check(), line.write(bytes(320)))
        assert looked


async def test_a_session_that_lost_its_engine_finds_its_model(
    ingest: Ingest, admin: Bus, who: Who, tmp_path: Path
) -> None:
    """An engine that starts loads the model of a session that nobody holds, before all else; not of a held one."""

    def unused(_: Session) -> LiveSession:
        raise AssertionError

    async with open_door(ingest, admin) as door, engine_of(tmp_path, "digest") as engine:
        name = (await door.open(who, Start())).session.session
        sessions = Sessions(admin, Load(1, None), "e", unused, engine)
        held = Lease(engine="other", since=0.0, process=this_process())
        revision = await admin.kv(subjects.SESSIONS).create(name, held.encode(), 60.0)
        await sessions.warm()
        assert engine.pid is None
        await admin.kv(subjects.SESSIONS).delete(name, revision)
        await sessions.warm()
        assert engine.pid is not None


async def test_a_session_does_not_last_for_ever(ingest: Ingest, admin: Bus, who: Who) -> None:
    """One that is kept alive for a day is ended by the clock, and whoever speaks on is told so."""
    async with open_door(ingest, admin) as door:
        line = await door.open(who, Start())
        await line.write(bytes(3200))
        line.session = line.session.model_copy(update={"opened": line.session.opened - LASTS})
        await line.say(Op.BEAT)
        with pytest.raises(Problem, match="session_ended"):
            await line.write(bytes(3200))
        last = await admin.js.get_last_msg(subjects.LIVE, subjects.live_audio(line.session.session), direct=True)
        assert last.headers is not None
        assert (last.headers[OP], last.headers[OFFSET]) == (Op.END, "3200")


async def test_the_summary_is_the_last_that_a_client_reads(ingest: Ingest, admin: Bus, who: Who) -> None:
    """However slowly it is taken: a receipt that was still to be told is told no more."""
    async with open_door(ingest, admin) as door:
        told: list[str] = []

        async def slow(text: str) -> None:
            told.append(json.loads(text)["type"])
            if told[-1] == "summary":
                await asyncio.sleep(1.2 * TELL)  # what is told once in TELL is due before this is over

        call = Call(door, ingest.bus, who, slow, lambda encoding: Start(encoding=encoding), plain=False)
        await call.start(Start())
        try:
            async with asyncio.timeout(SOON):
                while "received" not in told:
                    await call.audio(bytes(3200))
            await call.audio(bytes(3200))
            assert call.open
            ended = Ended(position=0.2, state="cancelled", duration=0.2, finals=0)
            session = (await admin.js.get_last_msg(subjects.LIVE, subjects.live_audio("*"), direct=True)).subject
            assert session
            await admin.append(subjects.live_out(session.split(".")[1]), ended.encode(), 0)
            await call.over
        finally:
            await call.leave()
        assert told[-1] == "summary"
        assert set(told) <= {"ready", "received", "lag", "summary"}


async def test_a_session_that_is_cancelled_costs_what_was_heard(ingest: Ingest, admin: Bus, who: Who) -> None:
    """Whoever has read the words of a session cannot have them for nothing by cancelling it in the end."""
    async with open_door(ingest, admin) as door:
        session = (await door.open(who, Start())).session.session
        await admin.append(subjects.live_out(session), Quiet(position=42.5).encode(), 0)
        await ingest.jobs.cancel_or_erase(who.tenant, session)
        outcome = await ingest.records.outcome(who.tenant, session)
        assert outcome is not None
        assert outcome.seconds == 42.5
