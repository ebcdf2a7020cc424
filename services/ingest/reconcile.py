"""The reconciler: jobs that stand still and are not on the bus are put back there.

It runs in every ingest and is harmless twice. It knows no job: what it sees is the record bucket, by its revisions, and
its own clock. Whatever was lost of the bus, up to all of it, costs delay and no job.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from services.contracts import objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Lane, State
from services.contracts.live import OFFSET, OP, LiveOptions, Op, Session
from services.contracts.parts import JobWork, PartWork
from services.ingest.erase import Eraser
from services.ingest.sweep import Sweep
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.kv import Conflict
from services.runtime.logs import get_logger
from services.runtime.records import JobGone, Records

LATE = 24 * 3600.0
"""Seconds after an erasure for which something may still be written by an engine that knew nothing of it."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two rounds, between two walks through the store, and until an unmoved record is looked after."""

    every: float = 15.0
    sweep_every: float = 3600.0
    stalled_after: float = 60.0


@dataclass(frozen=True, slots=True)
class _Seen:
    record: Record
    at: float
    """By our own clock, when this revision was first seen."""


class Reconciler:
    """Keeps what it saw of each unfinished job. `run` goes on for ever; `round` is one look.

    `told` is called with every record that it sees, all of them at the start; it must not block.
    """

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        records: Records,
        eraser: Eraser,
        sweep: Sweep,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
        told: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self._bus = bus
        self._kv = bus.kv(subjects.RECORDS)
        self._blobs = blobs
        self._records = records
        self._eraser = eraser
        self._sweep = sweep
        self._pace = pace
        self._clock = clock
        self._told = told
        self._log = get_logger()
        self._epoch = ""
        self._revision = 0
        self._unfinished: dict[Key, _Seen] = {}
        self._erased: dict[Key, float] = {}
        self._to_erase: set[Key] = set()
        self._sweep_due = 0.0

    async def run(self) -> None:
        """Round after round; a bus or a store that is away is waited for."""
        while True:
            try:
                await self.round()
            except Unavailable as away:
                self._log.warning("the reconciler waits", reason=str(away))
            await asyncio.sleep(self._pace.every)

    async def round(self) -> None:
        """Look at everything once and mend what stands still. Raises `Unavailable`."""
        await self._bus.ensure_streams()
        epoch = await self._bus.epoch(subjects.KV_RECORDS)
        if epoch != self._epoch:
            # Our start, or the bucket is another one: nothing that we knew of it holds.
            self._revision, self._unfinished, self._erased = 0, {}, {}
            await self._look()
            overdue = await self._sweep.round(everything=True)
            self._epoch, self._sweep_due = epoch, self._clock() + self._pace.sweep_every
        elif self._clock() >= self._sweep_due:
            overdue = await self._sweep.round(everything=False)
            self._look_for_late_words()
            self._sweep_due = self._clock() + self._pace.sweep_every
        else:
            overdue = []
        await self._look()
        await self._erase()
        await self._mend([record for record in overdue if _is_ours(record)] + self._stalled())

    async def _look(self) -> None:
        """Take in what changed in the bucket since the last look."""
        async for key, entry in self._kv.since(self._revision):
            self._revision = entry.revision
            tenant, _, job = key.partition(".")
            await self._see((tenant, job), entry.value)

    async def _see(self, key: Key, value: bytes) -> None:
        self._unfinished.pop(key, None)
        try:
            record = Record.model_validate_json(value)
        except ValidationError:
            self._log.error("a record cannot be read", tenant=key[0], job=key[1])
            return
        self._told(record)
        if record.state == State.ERASED and key not in self._erased:
            self._erased[key] = self._clock()
            self._to_erase.add(key)
        elif _is_ours(record):
            self._unfinished[key] = _Seen(record, self._clock())

    def _stalled(self) -> list[Record]:
        now = self._clock()
        return [seen.record for seen in self._unfinished.values() if now - seen.at >= self._pace.stalled_after]

    async def _mend(self, stalled: list[Record]) -> None:
        if not stalled:
            return
        # Jobs first: a prepare publishes its parts before its message goes.
        busy = await self._bus.counts(subjects.JOBS, subjects.ALL_JOBS)
        busy |= await self._bus.counts(subjects.PARTS, subjects.ALL_PARTS)
        opened, done = [
            {subject.split(".")[1] for subject in await self._bus.counts(subjects.LIVE, pattern)}
            for pattern in (subjects.ALL_LIVE_OPEN, subjects.ALL_LIVE_DONE)
        ]
        heard = opened - done
        stalled = [record for record in stalled if record.lane != Lane.LIVE or record.job not in heard]
        on_the_bus = {tuple(subject.split(".")[2:4]) for subject in busy}
        for record in stalled:
            if (record.tenant, record.job) not in on_the_bus:
                try:
                    await self._put_back(record)
                except (ValidationError, JobGone):
                    self._log.error("the objects of a job cannot be read", tenant=record.tenant, job=record.job)

    async def _put_back(self, record: Record) -> None:
        """Publish what is missing of a job that nobody works on. The record may be older than the job by now."""
        tenant, job = record.tenant, record.job
        outcome = await self._records.outcome(tenant, job)
        if outcome is not None:
            await self._records.finish(outcome, tenant)
            self._log.info("a record was behind its outcome", tenant=tenant, job=job)
            return
        if record.lane == Lane.LIVE and not record.sealed:
            await self._give_up(record)
            return
        if record.sealed and await self._blobs.stat(objects.plan(tenant, job)) is None:
            # A power cut took the seal, which had no barrier, and left the record, which is synced.
            record = await self._records.unseal(tenant, job)
        work = await self._parts(record) if record.sealed and not record.complete else {}
        if not work:
            # Not prepared to the end, or complete without an outcome: a prepare sees which, and does the rest.
            ask = JobWork(job=job, tenant=tenant, size=record.size, model=record.model)
            await self._bus.offer(subjects.job(record.lane, tenant, job), ask, record.traceparent)
        for n, part in work.items():
            await self._bus.offer(subjects.part(record.lane, tenant, job, n), part, record.traceparent)
        self._log.info("a job was put back on the bus", tenant=tenant, job=job, parts=len(work))

    async def _give_up(self, record: Record) -> None:
        """Have a live session whose sound was lost with the bus ended, with the words of it that are in the store.

        Its input says that nothing more comes, and so a transcriber takes it as one whose client did not come back.
        """
        manifest = await self._records.manifest(record.tenant, record.job)
        if manifest is None:
            raise JobGone(record.job)
        session = Session(
            session=record.job,
            tenant=record.tenant,
            options=manifest.options,
            live=LiveOptions(),
            opened=manifest.created,
            max_seconds=0.0,
            lost=True,
        )
        with suppress(Conflict):
            await self._bus.append(subjects.live_audio(record.job), b"", 0, {OFFSET: "0", OP: Op.LOST})
        with suppress(Conflict):
            await self._bus.append(subjects.live_open(record.job), session.encode(), 0)
        self._log.error("a live session was lost with the bus", tenant=record.tenant, job=record.job)

    async def _parts(self, record: Record) -> dict[int, PartWork]:
        """The parts that are not done, by number; none if one of them is not in the store: then prepare has to come."""
        tenant, job = record.tenant, record.job
        manifest = await self._records.manifest(tenant, job)
        cut = await self._records.parts(tenant, job)
        missing = [n for n in range(record.parts) if not record.bits >> n & 1]
        if manifest is None or not cut.keys() >= set(missing):
            return {}
        return {
            n: PartWork(
                job=job,
                tenant=tenant,
                n=n,
                seconds=cut[n].seconds,
                options=manifest.options,
                language=record.language,
            )
            for n in missing
        }

    async def _erase(self) -> None:
        for key in list(self._to_erase):
            try:
                await self._eraser.erase(*key)
            except ValidationError:
                self._log.error("the objects of a job cannot be read", tenant=key[0], job=key[1])
            self._to_erase.discard(key)

    def _look_for_late_words(self) -> None:
        """Have everything that was erased lately erased once more."""
        now = self._clock()
        self._erased = {key: at for key, at in self._erased.items() if now - at < LATE}
        self._to_erase |= self._erased.keys()


def _is_ours(record: Record) -> bool:
    """Whether the reconciler looks after this job: one that has ended needs nothing."""
    return not record.state.terminal
