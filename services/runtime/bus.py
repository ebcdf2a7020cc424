"""The message bus: NATS with JetStream, behind the few verbs that the protocol needs.

A unit of work is one message whose subject is the unit's name. JOBS and PARTS keep at most one message per subject and
refuse a second one, so publishing again is always safe, whatever crashed in between.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import nats
import nats.errors
import nats.micro
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError
from nats.micro.request import Request

from services.contracts import subjects
from services.contracts.errors import Code, Problem
from services.contracts.jobs import Frozen
from services.runtime.failpoints import Failpoints
from services.runtime.jsapi import AWAY, Unavailable, api, subject_counts
from services.runtime.kv import WRONG_LAST_SEQUENCE, Conflict, Kv, traced
from services.runtime.logs import get_logger
from services.runtime.settings import Settings
from services.runtime.streams import stream_configs

T = TypeVar("T", bound=Frozen)
Handler = Callable[[Any], Awaitable[Frozen]]

TOO_MANY_PER_SUBJECT = 10077
"""JetStream's error code for a second message on a subject that may hold one."""


class Bus:
    """One connection. `nc` and `js` are there for consumers; everything durable goes through the methods."""

    def __init__(self, nc: Client, js: JetStreamContext, failpoints: Failpoints, replicas: int = 1) -> None:
        self.nc = nc
        self.js = js
        self._fail = failpoints
        self._replicas = replicas

    async def ensure_streams(self) -> None:
        """Make the streams and buckets that are missing; leaves those that are there alone. Safe at any time.

        The requests are raw JSON: nats-py 2.16 cannot say everything that a stream can do.
        """
        for config in stream_configs(self._replicas):
            name = config["name"]
            answer = await api(self.nc, f"$JS.API.STREAM.INFO.{name}")
            if (answer.get("error") or {}).get("code") == 404:
                answer = await api(self.nc, f"$JS.API.STREAM.CREATE.{name}", config)
            if "error" in answer:
                raise Unavailable(f"stream {name}")

    async def offer(self, subject: str, work: Frozen, trace: str | None = None) -> bool:
        """Publish a unit of work; False when that unit is queued or in hand already. Repeating is always safe.

        `trace` is the job's trace context, for the headers.
        """
        kind = subject.split(".", 1)[0]
        self._fail.hit("offer", kind, "before")
        try:
            await self.js.publish(subject, work.encode(), headers=traced(trace), timeout=5)
        except APIError as error:
            if error.err_code == TOO_MANY_PER_SUBJECT:
                return False
            raise Unavailable("bus") from error
        except AWAY as error:
            raise Unavailable("bus") from error
        self._fail.hit("offer", kind, "after")
        return True

    async def publish(self, subject: str, message: Frozen, trace: str | None = None) -> None:
        """Publish to a stream and wait until it is stored; `trace` as for `offer`."""
        kind = subject.rsplit(".", 1)[-1] if subject.startswith("results.") else subject.split(".", 1)[0]
        self._fail.hit("publish", kind, "before")
        try:
            await self.js.publish(subject, message.encode(), headers=traced(trace), timeout=5)
        except AWAY as error:
            raise Unavailable("bus") from error
        self._fail.hit("publish", kind, "after")

    async def append(self, subject: str, data: bytes, last: int, headers: Mapping[str, str] | None = None) -> int:
        """Store the message that follows the one with sequence `last` on this subject (0: the first); its sequence.

        Raises `Conflict` when another follows it already, and `Unavailable`, after which it may be stored or not:
        `jsapi.read_last` tells.
        """
        expected = {"Nats-Expected-Last-Subject-Sequence": str(last)}
        try:
            ack = await self.js.publish(subject, data, headers={**(headers or {}), **expected}, timeout=5)
        except APIError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                raise Conflict(subject.rsplit(".", 1)[-1]) from error
            raise Unavailable("bus") from error
        except AWAY as error:
            raise Unavailable("bus") from error
        return ack.seq

    async def counts(self, stream: str, pattern: str) -> dict[str, int]:
        """See `jsapi.subject_counts`."""
        return await subject_counts(self.nc, stream, pattern)

    async def pending(self, stream: str, subject: str) -> bool:
        """Whether this unit has a message, queued or in hand."""
        return bool(await self.counts(stream, subject))

    async def epoch(self, stream: str) -> str:
        """When this stream was made: sequence numbers mean nothing beyond one epoch."""
        return (await self.tip(stream))[0]

    async def tip(self, stream: str) -> tuple[str, int]:
        """The epoch of this stream and its last sequence."""
        answer = await self._info(stream)
        return str(answer["created"]), int(answer["state"]["last_seq"])

    async def filled(self, stream: str) -> float:
        """What share of its bytes this stream has used. Raises `Unavailable`."""
        answer = await self._info(stream)
        return float(answer["state"]["bytes"] / answer["config"]["max_bytes"])

    async def _info(self, stream: str) -> dict[str, Any]:
        answer = await api(self.nc, f"$JS.API.STREAM.INFO.{stream}")
        if "error" in answer:
            raise Unavailable(f"stream {stream}")
        return answer

    async def ack(self, reply: str, kind: str) -> None:
        """Acknowledge and wait until the server has it; an ack that is lost is a redelivery, never an error."""
        self._fail.hit("ack", kind, "before")
        try:
            await self.nc.request(reply, b"+ACK", timeout=2)
        except AWAY:
            get_logger().warning("ack not confirmed", kind=kind)
        self._fail.hit("ack", kind, "after")

    async def ping(self) -> None:
        """Raise unless the bus and its record bucket answer."""
        answer = await api(self.nc, f"$JS.API.STREAM.INFO.{subjects.KV_RECORDS}")
        if "error" in answer:
            raise Unavailable("bus")

    def kv(self, bucket: str) -> Kv:
        """A key-value bucket."""
        return Kv(self.nc, self.js, bucket, self._fail)

    async def request(self, subject: str, message: Frozen, answer: type[T], timeout: float = 5.0) -> T:
        """Ask another service. Raises the `Problem` that it answers with, or `Unavailable` when nobody does."""
        try:
            reply = await self.nc.request(subject, message.encode(), timeout=timeout)
        except AWAY as error:
            raise Unavailable(subject.split(".", 1)[0]) from error
        if reply.headers and (code := reply.headers.get("Nats-Service-Error-Code")):
            if code == "500":
                raise Unavailable(subject.split(".", 1)[0])
            more = json.loads(reply.data or b"{}")
            raise Problem(Code(more["code"]), more.get("detail"), retry_after=more.get("retry_after"))
        return answer.model_validate_json(reply.data)

    @asynccontextmanager
    async def serve(
        self, name: str, handlers: Mapping[str, tuple[type[Frozen], Handler]] = MappingProxyType({})
    ) -> AsyncIterator[None]:
        """Answer requests as a discoverable NATS micro service. A handler raises `Problem` to refuse.

        Without handlers it is there to be found: `nats micro list` shows every process that runs.
        """
        log = get_logger()

        def endpoint(subject: str, model: type[Frozen], handler: Handler) -> Callable[[Request], Awaitable[None]]:
            async def answer(request: Request) -> None:
                try:
                    reply = await handler(model.model_validate_json(request.data))
                    await request.respond(reply.encode())
                except Problem as problem:
                    body = {"code": problem.code, "detail": problem.detail, "retry_after": problem.retry_after}
                    await request.respond_error(
                        code=str(problem.kind.status), description=problem.kind.title, data=json.dumps(body).encode()
                    )
                except Exception as error:
                    log.error("a request failed", subject=subject, error=type(error).__name__, exc_info=error)
                    await request.respond_error(code="500", description="internal error")

            return answer

        service = await nats.micro.add_service(self.nc, name=name, version="1.0.0", description=f"desifre {name}")
        try:
            for subject, (model, handler) in handlers.items():
                await service.add_endpoint(
                    name=subject.replace(".", "-"), subject=subject, handler=endpoint(subject, model, handler)
                )
            yield
        finally:
            await service.stop()


@asynccontextmanager
async def connect_bus(settings: Settings, failpoints: Failpoints | None = None) -> AsyncIterator[Bus]:
    """Connect, waiting for the server as long as it takes; reconnects for ever; drains at the end."""
    log = get_logger()

    async def on_error(error: Exception) -> None:
        log.warning("bus error", error=type(error).__name__, reason=str(error)[:200])

    async def on_reconnect() -> None:
        log.info("bus reconnected")

    options: dict[str, Any] = {
        "servers": [settings.nats_url],
        "name": settings.nats_user,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 2,
        "error_cb": on_error,
        "reconnected_cb": on_reconnect,
        "pending_size": 16 << 20,
    }
    if settings.nats_user:
        options |= {
            "user": settings.nats_user,
            "password": settings.nats_password.get_secret_value(),
            "inbox_prefix": subjects.inbox(settings.nats_user).encode(),
        }
    while True:
        try:
            nc = await nats.connect(**options)
            break
        except AWAY as error:
            log.warning("bus not there yet", error=type(error).__name__)
            await asyncio.sleep(0.25)
    bus = Bus(nc, nc.jetstream(timeout=5), failpoints or Failpoints(settings.failpoint), settings.nats_replicas)
    try:
        yield bus
    finally:
        try:
            await asyncio.wait_for(nc.drain(), 3)
        except AWAY:
            await nc.close()
