"""Tells of the ends of jobs: works off the stream CALLBACKS, each call noted in its log before the unit moves on.

The log says when the next call is due; the delay of a message is only an alarm clock, and may be lost with the bus.
"""

import asyncio
import contextlib
import time

from pydantic import ValidationError
from yarl import URL

from services.contracts import subjects
from services.contracts.auth import KeyRef, Secrets
from services.contracts.callbacks import Attempt, Callback, CallbackWork, Delivery, Told, callback_of, webhook_id
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.jobs import Lane, State
from services.contracts.transcript import Transcript
from services.ingest.callbacks import notice, signature
from services.ingest.callbacks.log import Deliveries
from services.ingest.callbacks.policy import endpoint
from services.ingest.callbacks.post import Answer, Poster
from services.ingest.callbacks.receivers import Receivers
from services.ingest.callbacks.schedule import Schedule
from services.ingest.jobs import Jobs
from services.runtime.bus import Bus
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.lifecycle import Tasks
from services.runtime.logs import get_logger
from services.runtime.metrics import Metrics
from services.runtime.puller import Puller, Unit

IN_HAND = 256
"""Callbacks in hand at once, of which a tenant may have `OF_ONE`."""
OF_ONE = 32
READING = 4
"""Transcripts read at once, to count their words."""
AGAIN = 5.0
"""Seconds after which a callback comes again when a part of ours was away: no call was made, none is counted."""
NET = 5.0
"""Seconds after which the loop looks again though no bell rang."""
REMEMBERED = 20
"""Calls that a log holds, the newest ones."""
SOON = 0.05
"""Seconds that a call may be early."""


class Deliverer:
    """Makes the calls.

    `base` is where clients reach the service, for the URLs in a body; empty = relative ones. `lease` are the seconds
    without a sign of life after which another ingest takes a callback over.
    """

    def __init__(
        self,
        bus: Bus,
        jobs: Jobs,
        log: Deliveries,
        poster: Poster,
        receivers: Receivers,
        schedule: Schedule,
        tasks: Tasks,
        metrics: Metrics,
        *,
        base: str,
        lease: float,
    ) -> None:
        self._bus = bus
        self._jobs = jobs
        self._deliveries = log
        self._poster = poster
        self._receivers = receivers
        self._schedule = schedule
        self._tasks = tasks
        self._base = base
        self._puller = Puller(bus, subjects.CALLBACKS, lambda _: 1.0, lease, most=-1)
        self._reading = asyncio.Semaphore(READING)
        self._in_hand: dict[asyncio.Task[None], Unit] = {}
        self._log = get_logger()
        self._calls = metrics.counter("callback_calls", "Calls of receivers", ("outcome",))
        self._delay = metrics.histogram("callback_first_seconds", "Seconds from a job's end to the first call about it")

    async def run(self) -> None:
        """Until cancelled."""
        async with self._puller.listening():
            self._tasks.start(self._puller.watch(), name="callbacks-watch")
            while True:
                self._puller.bell.clear()
                try:
                    while len(self._in_hand) < IN_HAND and (unit := await self._puller.pull(self._allowed)):
                        if self._has(unit):
                            continue  # we were late to say that we work on it; who has it settles it for both
                        task = self._tasks.start(self._work(unit), name="callback")
                        self._in_hand[task] = unit
                        task.add_done_callback(self._ended)
                except Unavailable:
                    await asyncio.sleep(0.5)
                    continue
                try:
                    async with asyncio.timeout(NET):
                        await self._puller.bell.wait()
                except TimeoutError:
                    continue

    def _allowed(self, _: Lane, tenant: str) -> bool:
        return sum(one.tenant == tenant for one in self._in_hand.values()) < OF_ONE

    def _has(self, unit: Unit) -> bool:
        return any(one.name == unit.name for one in self._in_hand.values())

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._puller.bell.set()

    async def _work(self, unit: Unit) -> None:
        left: float | None = AGAIN
        beat = asyncio.create_task(self._beat(unit), name="callback-beat")
        try:
            left = await self._tell(unit)
        except asyncio.CancelledError:
            left = 0.0  # we are going down: another ingest, or our next run, makes the call at once
            raise
        except (Unavailable, *AWAY) as away:
            self._log.warning("a callback waits", tenant=unit.tenant, reason=str(away)[:100])
        except Exception as error:  # noqa: BLE001 - a fault in one callback must not stop the others
            self._log.error("a callback failed", tenant=unit.tenant, error=type(error).__name__, exc_info=error)
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await self._settle(unit, left)

    async def _beat(self, unit: Unit) -> None:
        """Waiting for a turn and for an answer takes as long as it takes; both have an end."""
        while True:
            await asyncio.sleep(self._puller.ack_wait / 3)
            with contextlib.suppress(*AWAY):
                await self._puller.progress(unit)

    async def _settle(self, unit: Unit, left: float | None) -> None:
        try:
            await (self._puller.done(unit) if left is None else self._puller.give_back(unit, left))
        except AWAY:
            return  # it comes back by itself after `ack_wait`

    async def _tell(self, unit: Unit) -> float | None:
        """One step on with a unit: seconds until the next one, None when nothing is left to do."""
        try:
            work = CallbackWork.model_validate_json(unit.data)
        except ValidationError:
            self._log.error("a unit cannot be read", subject=unit.message.subject)
            return None
        known = await self._deliveries.get(work.tenant, work.job)
        if known is None or known.told == Told.WAITING:
            if known and known.next and (early := known.next - time.time()) > SOON:
                return early
            if (later := self._receivers.full(work.tenant, work.endpoint)) is not None:
                return later
            known = await self._in_turn(work)
            if known is None:
                return None
        if known.told == Told.WAITING:
            return max(0.0, (known.next or 0.0) - time.time())
        await self._deliveries.close(work.tenant, known)
        return None

    async def _in_turn(self, work: CallbackWork) -> Delivery | None:
        async with self._receivers.turn(work.tenant, work.endpoint):
            try:
                record = await self._jobs.get(work.tenant, work.job)
                callback = callback_of(await self._jobs.manifest(work.tenant, work.job))
            except Problem:
                return None  # erased: there is nothing left to tell
            if callback is None or not record.state.terminal:
                return None
            return await self._call(record, callback, asked=False)

    async def again(self, record: Record) -> Delivery:
        """Call once, now, whatever the log says. Raises `Problem` NOT_FINISHED, NO_CALLBACK, ERASED or RATE_LIMIT."""
        tenant, job = record.tenant, record.job
        callback = callback_of(await self._jobs.manifest(tenant, job))
        if callback is None:
            raise Problem(Code.NO_CALLBACK)
        if not record.state.terminal:
            raise Problem(Code.NOT_FINISHED)
        receiver = endpoint(URL(callback.url))
        if (later := self._receivers.full(tenant, receiver)) is not None:
            raise Problem(Code.RATE_LIMIT, "Its receiver is being called as often as it may be.", retry_after=later)
        async with self._receivers.turn(tenant, receiver):
            return await self._call(record, callback, asked=True)

    async def _call(self, record: Record, callback: Callback, *, asked: bool) -> Delivery:
        """Make one call and write it down."""
        tenant, job = record.tenant, record.job
        begun = time.time()
        if not asked and await self._deliveries.disabled(tenant, callback.url):
            attempt, answer = None, Answer(status=410)
        else:
            async with self._reading:
                words = await self._transcript(record)
                body = await asyncio.to_thread(notice.body, record, callback, words, self._base)
            keys = await self._secrets(record)
            begun = time.time()
            answer = Answer(error="no_secret")
            if keys:
                headers = signature.headers(keys, webhook_id(job, record.state), int(begun), body)
                answer = await self._poster.post(callback.url, body, headers)
            attempt = Attempt(
                at=round(begun, 3),
                duration=round(time.time() - begun, 3),
                status=answer.status,
                error=answer.error,
                response=answer.response,
                asked=asked,
            )
            await self._heed(tenant, callback.url, answer, asked=asked)
        self._count(record, answer, attempt)
        noted = await self._deliveries.note(tenant, job, lambda known: self._noted(known, attempt, answer))
        if not asked and len(noted.attempts) == 1 and attempt is not None:
            self._delay.observe(max(0.0, begun - (record.timings.finished or begun)))
        return noted

    async def _transcript(self, record: Record) -> Transcript | None:
        if record.state != State.COMPLETED:
            return None
        try:
            return await self._jobs.transcript(record.tenant, record.job)
        except Problem:
            return None  # erased this moment, or damaged: that it has ended is told all the same

    async def _secrets(self, record: Record) -> tuple[str, ...]:
        try:
            ask = KeyRef(tenant=record.tenant, key_id=record.key_id)
            return (await self._bus.request(subjects.KEYS_SIGNING, ask, Secrets)).secrets
        except Problem:
            return ()

    async def _heed(self, tenant: str, url: str, answer: Answer, *, asked: bool) -> None:
        """A receiver that is gone is called for no other job either, until it takes a call that somebody asked for."""
        if answer.status == 410:
            await self._deliveries.disable(tenant, url)
        elif asked and _taken(answer):
            await self._deliveries.enable(tenant, url)

    def _noted(self, known: Delivery, attempt: Attempt | None, answer: Answer) -> Delivery:
        """The log after this call. One that was asked for can end the waiting and never prolongs it."""
        attempts = (*known.attempts, *((attempt,) if attempt else ()))[-REMEMBERED:]
        asked = attempt is not None and attempt.asked
        tries = known.tries + (attempt is not None and not asked)
        told, due = known.told, known.next
        if _taken(answer):
            told, due = Told.DELIVERED, None
        elif answer.status == 410:
            told, due = Told.DISABLED if told == Told.WAITING else told, None
        elif not asked:
            wait = self._schedule.after(tries, answer.retry_after)
            told, due = (Told.FAILED, None) if wait is None else (Told.WAITING, round(time.time() + wait, 3))
        return Delivery(job=known.job, told=told, tries=tries, next=due, attempts=attempts)

    def _count(self, record: Record, answer: Answer, attempt: Attempt | None) -> None:
        outcome = "taken" if _taken(answer) else answer.error or "refused"
        if attempt is not None:
            self._calls.labels(outcome).inc()
        self._log.info(
            "a receiver was called" if attempt else "a receiver wants no more calls",
            tenant=record.tenant,
            job=record.job,
            status=answer.status,
            outcome=outcome,
            duration_ms=round(attempt.duration * 1000) if attempt else None,
        )


def _taken(answer: Answer) -> bool:
    return answer.status is not None and 200 <= answer.status < 300
