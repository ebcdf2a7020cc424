"""Settlement: the ledger follows the records of the jobs, by a durable consumer that misses none."""

import asyncio

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from services.contracts import subjects
from services.contracts.events import Record
from services.keys.ledger import Ledger
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY
from services.runtime.logs import get_logger

ACK_WAIT = 30.0
IDLE = 3.0
"""Seconds without an event after which the consumer is looked for: the stream may have been made anew."""


class Settler:
    """One event at a time, in order. Several processes may share the consumer: settling is idempotent by job."""

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        self._bus = bus
        self._ledger = ledger
        self._log = get_logger()

    async def run(self) -> None:
        """For ever; a bus that is away, or that lost its streams, is waited for."""
        while True:
            try:
                await self._consume()
            except AWAY as error:
                self._log.warning("usage events not there", error=type(error).__name__)
                await asyncio.sleep(1)

    async def _consume(self) -> None:
        pull = await self._bus.js.pull_subscribe(
            subjects.ALL_STATES,
            durable=subjects.USAGE_CONSUMER,
            stream=subjects.RESULTS,
            config=ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=DeliverPolicy.ALL,
                ack_wait=ACK_WAIT,
                max_deliver=-1,
                max_ack_pending=64,
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
            await self._settle(message)
        except SQLAlchemyError as error:
            self._log.warning("usage not settled yet", error=type(error).__name__)
            await message.nak(delay=5)
            return
        await message.ack()

    async def _settle(self, message: Msg) -> None:
        if not message.data:
            return  # the record was removed, long after its end
        try:
            record = Record.model_validate_json(message.data)
        except ValidationError:
            self._log.error("a state event cannot be read", subject=message.subject)
            return
        await self._ledger.settle(record)
