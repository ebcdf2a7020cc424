"""The bus door: other services publish to `submit.<tenant>`, and the stream's acknowledgement is their receipt.

Each tenant's submissions are drained by a consumer of their own, a few at a time, so that nobody waits behind another's
ten thousand. What cannot become a job ends in `rejected.<tenant>`; what only has to wait, waits on the stream.
"""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import suppress

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from services.contracts import subjects
from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_tenant
from services.contracts.jobs import Door
from services.contracts.submit import TRACEPARENT, Named, Rejected, Submit
from services.ingest.admission import Admission
from services.ingest.asked import Asked, Origin, trace_of
from services.ingest.callbacks.policy import FIELDS, Policy
from services.ingest.crowd import Crowd
from services.ingest.engines import Engines
from services.ingest.http.names import clean_name
from services.ingest.options import field_of, options_in_time, shown
from services.ingest.settings import Settings
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.lifecycle import cancel
from services.runtime.logs import get_logger

AT_ONCE = 4
"""Submissions of one tenant that are admitted at once."""
ACK_WAIT = 30.0
AGAIN = 5.0
"""Seconds after which a submission is tried again that has to wait."""
TRIES = 5
"""Deliveries after which one that only breaks us is rejected: it must not hold up those behind it for ever."""
QUIET = 0.5
"""Seconds without a submission after which a tenant's consumer is left alone."""
_READ = 7 * 86_400.0


class BusDoor:
    """Turns submissions into jobs. `drop` is the bucket in which their objects lie."""

    def __init__(
        self, bus: Bus, admission: Admission, engines: Engines, drop: Blobs, callbacks: Policy, settings: Settings
    ) -> None:
        self._bus = bus
        self._admission = admission
        self._engines = engines
        self._drop = drop
        self._callbacks = callbacks
        self._settings = settings
        self._crowd = Crowd(self._waiting, self._drain, every=3.0, at_once=4 * AT_ONCE)
        self._log = get_logger()

    async def run(self) -> None:
        """For ever; the doorbell wakes it, and a look every few seconds makes up for the bell that nobody heard."""

        async def ring(_: Msg) -> None:
            self._crowd.bell.set()

        bell = await self._bus.nc.subscribe(subjects.bell(subjects.ALL_SUBMITS), cb=ring)
        try:
            await self._crowd.run()
        finally:
            await bell.unsubscribe()

    async def _waiting(self) -> list[str]:
        found = await self._bus.counts(subjects.SUBMIT, subjects.ALL_SUBMITS)
        return [tenant for subject in found if is_tenant(tenant := subject.split(".", 1)[1])]

    async def _drain(self, tenant: str, places: asyncio.Semaphore) -> None:
        try:
            await make_readers(self._bus, tenant)
            pull = await self._bus.js.pull_subscribe(
                subjects.submit(tenant),
                durable=tenant,
                stream=subjects.SUBMIT,
                config=ConsumerConfig(
                    ack_policy=AckPolicy.EXPLICIT,
                    ack_wait=ACK_WAIT,
                    max_deliver=-1,
                    max_ack_pending=16 * AT_ONCE,
                    inactive_threshold=86_400,
                ),
            )
            try:
                while messages := await pull.fetch(AT_ONCE, timeout=QUIET):
                    taking = (self._take(tenant, message, places) for message in messages)
                    for error in await asyncio.gather(*taking, return_exceptions=True):
                        if error is not None:
                            raise error
            except TimeoutError:
                pass  # nothing more just now
            finally:
                await pull.unsubscribe()
        except AWAY as error:
            self._log.warning("submissions wait", tenant=tenant, error=type(error).__name__)

    async def _take(self, tenant: str, message: Msg, places: asyncio.Semaphore) -> None:
        """One submission, to its end: admitted, rejected, or left for later. Raises what `AWAY` names."""
        holding = asyncio.create_task(_hold(message), name="submission-in-hand")
        try:
            async with places:
                await self._admit(tenant, message)
        except Problem as problem:
            if problem.code == Code.TOO_MANY_JOBS:
                await message.nak(delay=problem.retry_after or AGAIN)
                return
            await self._reject(tenant, message, problem)
        except Unavailable as away:
            self._log.warning("a submission waits", tenant=tenant, reason=str(away))
            await message.nak(delay=AGAIN)
            return
        except Exception as error:  # noqa: BLE001 - one submission must not end the door for all
            self._log.error("a submission failed", tenant=tenant, error=type(error).__name__, exc_info=error)
            if message.metadata.num_delivered < TRIES:
                await message.nak(delay=AGAIN)
                return
            await self._reject(tenant, message, Problem(Code.INTERNAL))
        finally:
            await cancel(holding)
        await self._bus.ack(message.reply, "submit")

    async def _admit(self, tenant: str, message: Msg) -> None:
        ask = _read(message.data)
        who = Claims(tenant=tenant, key_id="nats", username="nats", scopes=(Scope.SUBMIT,))
        if await self._admission.known(who, Door.NATS, ask.id) is not None:
            return
        asked = {**ask.options, **ask.model_dump(include=set(FIELDS), exclude_none=True)}
        others, callback = self._callbacks.wish({name: field_of(value) for name, value in asked.items()})
        options = options_in_time(
            others, await self._engines.models(), self._settings.default_model, self._settings.default_language
        )
        if ask.audio is not None:
            data = _decoded(ask.audio)
            chunks, length = _one(data), len(data)
        else:
            chunks, length = await self._object(tenant, ask.object or "")
        await self._admission.receive(
            who,
            chunks,
            options=Asked(options, callback),
            door=Door.NATS,
            lane=ask.lane,
            length=length,
            name=clean_name(ask.name or ask.object),
            idempotency_key=ask.id,
            origin=Origin(external_id=ask.id, traceparent=trace_of((message.headers or {}).get(TRACEPARENT))),
        )

    async def _object(self, tenant: str, key: str) -> tuple[AsyncIterator[bytes], int]:
        """A recording in the bucket, below the tenant's own prefix. Raises `Problem` NO_OBJECT."""
        # A store that keeps folders would take `..` for the folder above: another tenant's.
        if not key.startswith(f"{tenant}/") or any(step in ("", ".", "..") for step in key.split("/")):
            raise Problem(Code.NO_OBJECT, "`object` must be a key below your own prefix.")
        stat = await self._drop.stat(key)
        if stat is None:
            raise Problem(Code.NO_OBJECT)
        return self._drop.read(key), stat.size

    async def _reject(self, tenant: str, message: Msg, problem: Problem) -> None:
        sentence = f"{problem.kind.title}. {problem.detail or ''}".strip()
        event = Rejected(id=_id_of(message.data), code=problem.code, sentence=sentence, remedy=problem.kind.remedy)
        self._log.info("a submission was rejected", tenant=tenant, code=problem.code)
        try:
            await self._bus.publish(subjects.rejected(tenant), event)
        except Unavailable as away:
            raise ConnectionError("bus") from away  # not acknowledged: it comes again, and is rejected then


async def make_readers(bus: Bus, tenant: str) -> None:
    """The consumers by which a tenant's services read; they cannot make their own, see infra/nats. May be repeated."""
    for stream, pattern in (
        (subjects.RESULTS, f"results.{tenant}.>"),
        (subjects.REJECTED, subjects.rejected(tenant)),
    ):
        await bus.js.add_consumer(
            stream,
            ConsumerConfig(
                name=subjects.reader(tenant),
                durable_name=subjects.reader(tenant),
                filter_subject=pattern,
                ack_policy=AckPolicy.EXPLICIT,
                deliver_policy=DeliverPolicy.ALL,
                max_deliver=-1,
                max_ack_pending=1000,
                inactive_threshold=_READ,
            ),
        )


def _read(data: bytes) -> Submit:
    """Raises `Problem` SUBMISSION, which says what is wrong and quotes no value."""
    try:
        ask = Submit.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "extra_forbidden":
            raise Problem(Code.SUBMISSION, f"Unknown: `{shown(str(first['loc'][-1]))}`.") from None
        where = ".".join(str(step) for step in first["loc"] if step in Submit.model_fields) or "the message"
        raise Problem(Code.SUBMISSION, f"`{where}`: {first['msg']}.") from None
    if (ask.object is None) == (ask.audio is None):
        raise Problem(Code.SUBMISSION, "It must have either `object` or `audio`.")
    return ask


def _id_of(data: bytes) -> str | None:
    """The publisher's own id, also of a message that is wrong elsewhere."""
    try:
        return Named.model_validate_json(data).id
    except ValidationError:
        return None


def _decoded(audio: str) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(Code.SUBMISSION, "`audio` is not base64.") from None


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _hold(message: Msg) -> None:
    """Say that this submission is in hand, for as long as its object takes to be read."""
    while True:
        await asyncio.sleep(ACK_WAIT / 3)
        with suppress(*AWAY):
            await message.in_progress()
