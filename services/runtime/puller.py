"""Pulls units of work from JOBS, PARTS or CALLBACKS, one at a time and in fair order."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nats.aio.msg import Msg
from nats.js import api as js_api
from nats.js.errors import APIError
from nats.js.errors import Error as JetStreamError

from services.contracts import subjects
from services.contracts.jobs import Lane
from services.runtime.bus import Bus
from services.runtime.fair import Key, Turns
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.logs import get_logger

_EXPIRES = json.dumps({"batch": 1, "expires": 2_000_000}).encode()
"""A pull that is always answered, within 2 ms (a `no_wait` pull at max_ack_pending never is)."""
_LATER = 0.02
"""Seconds by which the server may be late with a unit that was given back."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work in hand: its place in the queues, its payload and its message."""

    lane: Lane
    tenant: str
    message: Msg

    @property
    def data(self) -> bytes:
        """The payload."""
        return self.message.data

    @property
    def name(self) -> str:
        """The unit's name, which is its subject."""
        return self.message.subject

    @property
    def key(self) -> Key:
        """Whose turn it was."""
        return (self.lane, self.tenant)


class Puller:
    """One stream's queues as this process sees them.

    `cost` gives a unit's seconds of audio from its payload; `ack_wait` are the seconds without a sign of progress
    after which a unit is given to another engine. `most` is how many units of one queue may be in hand or put off
    (-1: any number; who puts units off for hours must not hold up those behind them).
    """

    def __init__(
        self, bus: Bus, stream: str, cost: Callable[[bytes], float], ack_wait: float = 30.0, most: int = 64
    ) -> None:
        self.ack_wait = ack_wait
        self._most = most
        self._bus = bus
        self.stream = stream
        self._cost = cost
        self._known: set[Key] = set()
        self._rings: dict[Key, int] = {}
        self.turns = Turns()
        self.bell = asyncio.Event()
        """Set whenever there may be new work."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear the doorbell, which rings after a unit is stored."""
        kind = self.stream.lower()

        async def ring(message: Msg) -> None:
            _, _, lane, tenant, *_ = message.subject.split(".")
            self._ring((Lane(lane), tenant))

        subscription = await self._bus.nc.subscribe(f"{subjects.BELL}.{kind}.>", cb=ring)
        try:
            yield
        finally:
            await subscription.unsubscribe()

    def _ring(self, key: Key) -> None:
        self._rings[key] = self._rings.get(key, 0) + 1
        self.turns.add(*key)
        self.bell.set()

    async def watch(self) -> None:
        """List the stream three times per `ack_wait`, for the bell that nobody heard. Runs until cancelled.

        A unit whose engine was killed comes back after `ack_wait` without any bell: this finds it.
        """
        while True:
            try:
                await self.refresh()
            except Unavailable:
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(self.ack_wait / 3)

    async def refresh(self) -> None:
        """One full listing."""
        for subject in await self._bus.counts(self.stream, subjects.filter_of(self.stream, "*", "*")):
            _, lane, tenant, *_ = subject.split(".")
            self.turns.add(Lane(lane), tenant)
        self.bell.set()

    async def pull(self, allowed: Callable[[Lane, str], bool] = lambda _, __: True) -> Unit | None:
        """The next unit in fair order among the `allowed`, or None when there is none just now."""
        for lane, tenant in self.turns.order(allowed):
            if (unit := await self.pull_from(lane, tenant)) is not None:
                return unit
        return None

    async def pull_from(self, lane: Lane, tenant: str) -> Unit | None:
        """The next unit of one lane and tenant, or None when its queue is empty. Raises `Unavailable`."""
        name = subjects.consumer(lane, tenant)
        rings = self._rings.get((lane, tenant))
        for _ in range(2):
            await self._consumer(lane, tenant)
            try:
                message = await self._next(name)
            except AWAY as error:
                # No consumer answers at all: it is gone (its stream was made anew), or the bus is away.
                self._known.discard((lane, tenant))
                if not self._bus.nc.is_connected:
                    raise Unavailable("bus") from error
                continue
            if message.headers and message.headers.get("Status"):
                # A bell that rang meanwhile speaks of a unit that this answer did not see.
                if self._rings.get((lane, tenant)) == rings:
                    self.turns.remove(lane, tenant)
                    self._rings.pop((lane, tenant), None)
                return None
            self.turns.served(lane, tenant, self._cost(message.data))
            return Unit(lane, tenant, message)
        self.turns.remove(lane, tenant)
        return None

    async def _next(self, consumer: str) -> Msg:
        asking = asyncio.create_task(
            self._bus.nc.request(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{consumer}", _EXPIRES, timeout=2, old_style=True
            ),
            name="pull",
        )
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # A unit that is on its way to us would be in nobody's hands until it is redelivered.
            with contextlib.suppress(*AWAY):
                await self._bus.nc.publish((await asking).reply, b"-NAK")
            raise

    async def _consumer(self, lane: Lane, tenant: str) -> None:
        """Make the durable consumer of this lane and tenant, when it is first needed."""
        if (lane, tenant) in self._known:
            return
        name = subjects.consumer(lane, tenant)
        config = js_api.ConsumerConfig(
            name=name,
            durable_name=name,
            filter_subject=subjects.filter_of(self.stream, lane, tenant),
            ack_policy=js_api.AckPolicy.EXPLICIT,
            ack_wait=self.ack_wait,
            max_deliver=-1,
            max_ack_pending=self._most,
            inactive_threshold=86_400,
        )
        try:
            await self._bus.js.add_consumer(self.stream, config)
        except APIError as error:
            get_logger().warning("no consumer", stream=self.stream, code=error.err_code)
            raise Unavailable("bus") from error
        except (JetStreamError, *AWAY) as error:
            raise Unavailable("bus") from error
        self._known.add((lane, tenant))

    async def progress(self, unit: Unit) -> None:
        """Say that the unit is being worked on, so that it is not given to another engine."""
        await self._bus.nc.publish(unit.message.reply, b"+WPI")

    async def give_back(self, unit: Unit, delay: float = 0.0) -> None:
        """Return a unit unfinished; it is delivered again after `delay` seconds."""
        body = json.dumps({"delay": int(delay * 1e9)}).encode() if delay else b""
        await self._bus.nc.publish(unit.message.reply, b"-NAK " + body if body else b"-NAK")
        asyncio.get_running_loop().call_later(delay + _LATER, self._ring, unit.key)

    async def done(self, unit: Unit) -> None:
        """Acknowledge. This is never the commit: the commit was the record."""
        await self._bus.ack(unit.message.reply, self.stream.lower())
