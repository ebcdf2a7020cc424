"""Every state event of every job, one or a few at a time, by a durable consumer that misses none."""

import asyncio
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from services.contracts import subjects
from services.contracts.events import Record
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.logs import get_logger

AGAIN = 5.0
"""Seconds after which an event comes again whose work needed something that was away."""
LATEST = 3600.0
"""Seconds after which at the latest an event comes again that only breaks us; from `AGAIN` on, twice as many each time.

What comes again comes before what is new: too soon, and many of them would leave no turn to others."""
IDLE = 3.0
"""Seconds without an event after which the consumer is looked for: the stream may have been made anew."""


class StateEvents:
    """Hands each event to `handle`, in order; processes with the same `durable` share the events among them.

    With `at_once` above one this process handles so many beside one another, as so many processes would: out of order.

    `handle` must be idempotent by job, since an event may come again, and may raise `Unavailable`. An event in the
    hands of a process that died comes to another after `ack_wait` seconds.
    """

    def __init__(
        self,
        bus: Bus,
        durable: str,
        handle: Callable[[Record], Awaitable[None]],
        ack_wait: float = 30.0,
        *,
        at_once: int = 1,
    ) -> None:
        self._ack_wait = ack_wait
        self._at_once = at_once
        self._bus = bus
        self._durable = durable
        self._handle = handle
        self._log = get_logger()

    async def run(self) -> None:
        """For ever; a bus that is away, or that lost its streams, is waited for."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._keep_on(), name=f"state events {self._durable}")

    async def _keep_on(self) -> None:
        while True:
            try:
                await self._consume()
            except AWAY as error:
                self._log.warning("state events not there", consumer=self._durable, error=type(error).__name__)
                await asyncio.sleep(1)

    async def _consume(self) -> None:
        pull = await self._bus.js.pull_subscribe(
            subjects.ALL_STATES,
            durable=self._durable,
            stream=subjects.RESULTS,
            config=ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=DeliverPolicy.ALL,
                ack_wait=self._ack_wait,
                max_deliver=-1,
                # What was put off counts as pending: 64 jobs that only break us would hold up everybody's for an hour.
                max_ack_pending=-1,
            ),
        )
        try:
            while True:
                await self._next(pull)
        finally:
            await pull.unsubscribe()

    async def _next(self, pull: JetStreamContext.PullSubscription) -> None:
        try:
            [message] = await pull.fetch(1, timeout=IDLE)
        except TimeoutError:
            await pull.consumer_info()
            return
        try:
            await self._take(message)
        except Unavailable as away:
            self._log.warning("a state event waits", consumer=self._durable, reason=str(away))
            await message.nak(delay=AGAIN)
            return
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours in one job must not end the process for all
            self._log.error("a state event failed", consumer=self._durable, error=type(error).__name__, exc_info=error)
            await message.nak(delay=min(LATEST, AGAIN * 2.0 ** (message.metadata.num_delivered - 1)))
            return
        await message.ack()

    async def _take(self, message: Msg) -> None:
        if not message.data:
            return  # the record was removed, long after its end
        try:
            record = Record.model_validate_json(message.data)
        except ValidationError:
            self._log.error("a state event cannot be read", subject=message.subject)
            return
        await self._handle(record)
