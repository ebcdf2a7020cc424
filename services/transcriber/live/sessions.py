"""Which sessions this engine hears: found by a bell and by a listing, claimed by a lease, held while it is renewed."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from nats.aio.msg import Msg
from pydantic import ValidationError

from services.contracts import subjects
from services.contracts.live import Lease, LiveCard, Session
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable, read_last
from services.runtime.kv import Conflict
from services.runtime.lifecycle import cancel
from services.runtime.logs import get_logger
from services.transcriber.engine.protocol import Engine
from services.transcriber.live.holder import is_gone, this_process
from services.transcriber.live.load import Load
from services.transcriber.live.session import LiveSession

LEASE = 3.0
"""Seconds for which a lease holds; so long a session waits whose engine's machine is gone."""
RENEW = 0.8
"""Seconds between two renewals."""
LET_OTHERS = 10.0
"""Seconds that an engine without the model leaves a session to one that has it; then it says that nobody has."""
LOOK = 0.5
"""Seconds between two looks for sessions that nobody hears."""


class Sessions:
    """Claims sessions as far as there is room, and hears them."""

    def __init__(self, bus: Bus, load: Load, name: str, make: Callable[[Session], LiveSession], engine: Engine) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.SESSIONS)
        self._load = load
        self._name = name
        self._process = this_process()
        self._make = make
        self._engine = engine
        self._warming: asyncio.Task[None] | None = None
        self._held: dict[str, asyncio.Task[None]] = {}
        self._heard: dict[str, LiveSession] = {}
        self._without_model: dict[str, float] = {}
        self._bell = asyncio.Event()
        self._log = get_logger()

    def card(self) -> LiveCard:
        """How much room there is."""
        lag = max((session.lag for session in self._heard.values()), default=0.0)
        return LiveCard(capacity=self._load.capacity, sessions=len(self._held), lag=round(lag, 2))

    async def run(self) -> None:
        """Until cancelled; then every session is let go at once, so that another engine takes it."""

        async def ring(_: Msg) -> None:
            self._bell.set()

        subscription = await self._bus.nc.subscribe(f"{subjects.RELAY}.{subjects.ALL_LIVE_OPEN}", cb=ring)
        try:
            while True:
                self._bell.clear()
                with suppress(Unavailable):
                    await self._look()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._bell.wait()
        finally:
            await cancel(*self._held.values(), *([self._warming] if self._warming else []))
            with suppress(*AWAY):
                await subscription.unsubscribe()

    async def warm(self) -> None:
        """Load the model of a session that lost its engine, while the rest of this process starts."""
        with suppress(Unavailable):
            for name in await self._unended():
                if await self._free(name) and (session := await self._session(name)) is not None:
                    await self._warm(session.options.model)
                    return

    async def _look(self) -> None:
        """Claim sessions that nobody hears. The oldest first: whoever waits longest lost an engine."""
        unheard = [name for name in await self._unended() if name not in self._held]
        self._without_model = {name: since for name, since in self._without_model.items() if name in unheard}
        for session in unheard:
            if len(self._held) >= self._load.capacity:
                return
            await self._claim(session)

    async def _unended(self) -> list[str]:
        """The sessions that have not become jobs, oldest first."""
        opened = await self._bus.counts(subjects.LIVE, subjects.ALL_LIVE_OPEN)
        done = await self._bus.counts(subjects.LIVE, subjects.ALL_LIVE_DONE) if opened else {}
        return sorted({_session_of(subject) for subject in opened} - {_session_of(subject) for subject in done})

    async def _session(self, name: str) -> Session | None:
        found = await read_last(self._bus.nc, subjects.LIVE, subjects.live_open(name))
        try:
            return Session.model_validate_json(found.data) if found else None
        except ValidationError:
            self._log.error("a session cannot be read", job=name)
            return None

    async def _claim(self, name: str) -> None:
        session = await self._session(name)
        if session is None:
            return
        if not self._engine.available(session.options.model) and not await self._left(name):
            return
        lease = Lease(engine=self._name, since=time.time(), process=self._process).encode()
        revision = await self._lease(name, lease)
        if revision is None:
            # Somebody hears it; or did, on a machine that is gone. A model loads meanwhile.
            if self._warming is None:
                self._warming = asyncio.create_task(self._warm(session.options.model), name="warm")
            return
        self._load.expect()
        task = asyncio.create_task(self._hold(session, revision, lease), name=f"session {name}")
        self._held[name] = task
        task.add_done_callback(lambda _: self._let_go(name))

    async def _left(self, name: str) -> bool:
        """Whether a session whose model is not here has been held by nobody for long."""
        if not await self._free(name):
            self._without_model.pop(name, None)
            return False
        return time.time() - self._without_model.setdefault(name, time.time()) >= LET_OTHERS

    async def _lease(self, name: str, lease: bytes) -> int | None:
        """Take the lease if it is free, or held by who is dead. Its revision, or None. Raises `Unavailable`."""
        try:
            return await self._kv.create(name, lease, LEASE)
        except Conflict:
            held = await self._kv.get(name)
        if held is None or not is_gone(Lease.model_validate_json(held.value).process):
            return None
        with suppress(Conflict):  # another was faster
            return await self._kv.update(name, lease, held.revision, LEASE)
        return None

    async def _free(self, name: str) -> bool:
        """Whether nobody holds this session, or one that is dead."""
        held = await self._kv.get(name)
        return held is None or is_gone(Lease.model_validate_json(held.value).process)

    async def _warm(self, model: str) -> None:
        try:
            await self._engine.load(model)
        except Exception as error:  # noqa: BLE001 - whoever needs it is told; nobody does yet
            self._log.warning("a model cannot be made ready", model=model, error=type(error).__name__)

    def _let_go(self, name: str) -> None:
        self._held.pop(name, None)
        self._heard.pop(name, None)
        self._bell.set()

    async def _hold(self, session: Session, revision: int, lease: bytes) -> None:
        """Hear the session while the lease holds."""
        name = session.session
        live = self._heard[name] = self._make(session)
        hearing = asyncio.create_task(live.run(), name=f"hear {name}")
        until = time.monotonic() + LEASE
        try:
            while not hearing.done():
                await asyncio.wait([hearing], timeout=RENEW)
                if hearing.done():
                    break
                try:
                    revision = await self._kv.update(name, lease, revision, LEASE)
                    until = time.monotonic() + LEASE
                except Unavailable:
                    if time.monotonic() > until:
                        break  # another may have it; what we would say is refused from now on
                except Conflict:
                    break
            if not hearing.done():
                await cancel(hearing)  # first of all: what it still wrote would be another's
                await live.keep()  # for the bus may have lost it
            elif not hearing.cancelled() and (error := hearing.exception()) is not None:
                await live.keep()
                if isinstance(error, Conflict):
                    self._log.info("a session went to another engine", job=name)
                else:
                    self._log.error("a session met a fault", job=name, error=type(error).__name__, exc_info=error)
                    # Not at once again: whoever claims it next begins where the words end.
                    await asyncio.sleep(LOOK)
        finally:
            await cancel(hearing)
            with suppress(Conflict, Unavailable):
                await self._kv.delete(name, revision)


def _session_of(subject: str) -> str:
    return subject.split(".")[1]
