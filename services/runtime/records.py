"""The job record and the one way a job ends: the protocol that several services speak.

Object storage is the record of truth. The record in the key-value bucket is the quick view and the lock of progress,
and can be rebuilt; `outcome.json` is written once, and whoever writes it wins.
"""

import time
from collections.abc import Callable, Collection

from services.contracts import objects, subjects
from services.contracts.events import Record
from services.contracts.jobs import Manifest, Outcome, State, Timings
from services.contracts.parts import Part, Plan
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.kv import Conflict
from services.runtime.logs import get_logger

Change = Callable[[Record], Record | None]

RETENTION = 30 * 86_400.0
"""Seconds for which a job that ended keeps its record; after that it is read from its objects."""


class JobGone(Exception):  # noqa: N818 - a state, not a fault
    """There is neither a record nor a manifest: the job was erased long ago, or never was."""


def fresh(manifest: Manifest) -> Record:
    """The record of a job that has just been admitted."""
    return Record(
        job=manifest.job,
        tenant=manifest.tenant,
        key_id=manifest.key_id,
        door=manifest.door,
        lane=manifest.lane,
        model=manifest.options.model,
        state=State.ACCEPTED,
        size=manifest.size,
        language=manifest.options.language,
        timings=Timings(accepted=manifest.created),
        external_id=manifest.external_id,
        callback=manifest.callback_url is not None,
        traceparent=manifest.traceparent,
    )


def ended(record: Record, outcome: Outcome) -> Record:
    """The record as this outcome leaves it."""
    return record.model_copy(
        update={
            "state": outcome.state,
            "failure": outcome.failure,
            "sha256": outcome.sha256,
            "seconds": outcome.seconds,
            "duration": outcome.duration if outcome.duration is not None else record.duration,
            "language": outcome.language or record.language,
            "timings": outcome.timings,
        }
    )


class Records:
    """Reads and changes records; every change is a compare-and-set and becomes a state event."""

    def __init__(self, bus: Bus, blobs: Blobs) -> None:
        self._kv = bus.kv(subjects.RECORDS)
        self._blobs = blobs

    async def create(self, record: Record) -> bool:
        """Write a record that is not there; False when it is, or when its job ended longer ago than `RETENTION`."""
        left = None
        if record.state.terminal:
            left = RETENTION - (time.time() - (record.timings.finished or record.timings.accepted))
            if left <= 0:
                return False
        try:
            await self._kv.create(subjects.record(record.tenant, record.job), record.encode(), left, record.traceparent)
        except Conflict:
            return False
        return True

    async def get(self, tenant: str, job: str) -> Record | None:
        """The record, or None."""
        entry = await self._kv.get(subjects.record(tenant, job))
        return Record.model_validate_json(entry.value) if entry else None

    async def revision(self, tenant: str, job: str) -> tuple[Record, int] | None:
        """The record with its revision, for who watches whether it moves."""
        entry = await self._kv.get(subjects.record(tenant, job))
        return (Record.model_validate_json(entry.value), entry.revision) if entry else None

    async def change(self, tenant: str, job: str, change: Change) -> Record:
        """Apply `change` by compare-and-set until it holds; returns the record as it then is.

        `change` may be called several times and returns None when there is nothing to do. A terminal record is
        final: `change` is not asked. A record that is missing is rebuilt from the objects first.
        Raises `JobGone`, `Unavailable`.
        """
        key = subjects.record(tenant, job)
        while True:
            entry = await self._kv.get(key)
            if entry is None:
                rebuilt = await self.rebuild(tenant, job)
                if rebuilt is None:
                    raise JobGone(job)
                if rebuilt.state.terminal:
                    return rebuilt
                continue
            record = Record.model_validate_json(entry.value)
            changed = None if record.state.terminal else change(record)
            if changed is None or changed == record:
                return record
            try:
                await self._kv.update(key, changed.encode(), entry.revision, trace=record.traceparent)
            except Conflict:
                continue
            return changed

    async def finish(self, outcome: Outcome, tenant: str) -> Outcome:
        """End a job: write its outcome once, or take the one that is there; then the barrier, then the record.

        Returns the outcome that holds, which may be another's. Repeating it is harmless. Raises `Unavailable`.
        """
        key = objects.outcome(tenant, outcome.job)
        first = await self._blobs.put_once(key, outcome.encode())
        if not first:
            found = await self._blobs.get(key)
            if found is not None:
                outcome = Outcome.model_validate_json(found)
        await self._blobs.durable()
        if first:
            why = {"code": outcome.failure.code} if outcome.failure else {}
            get_logger().info("a job ended", tenant=tenant, job=outcome.job, state=outcome.state, **why)
        await self.settle(outcome, tenant)
        await self.drop_samples(tenant, outcome.job)
        return outcome

    async def drop_samples(self, tenant: str, job: str) -> None:
        """Remove the decoded samples of a job that has ended; they are many times its source and can be made again."""
        found = [stat.key async for stat in self._blobs.list(objects.parts(tenant, job))]
        await self._blobs.delete(key for key in found if key.endswith(".pcm"))

    async def settle(self, outcome: Outcome, tenant: str) -> None:
        """Bring the record up to an outcome that is in the store already."""
        key = subjects.record(tenant, outcome.job)
        while True:
            entry = await self._kv.get(key)
            record = Record.model_validate_json(entry.value) if entry else await self.view(tenant, outcome.job)
            if record is None:
                return
            changed = ended(record, outcome)
            # Erasure alone may follow a terminal state.
            if entry and (changed == record or (record.state.terminal and outcome.state != State.ERASED)):
                return
            try:
                if entry is None:
                    await self._kv.create(key, changed.encode(), RETENTION, record.traceparent)
                else:
                    await self._kv.update(key, changed.encode(), entry.revision, RETENTION, record.traceparent)
            except Conflict:
                continue
            return

    async def outcome(self, tenant: str, job: str) -> Outcome | None:
        """The job's outcome, or None while there is none."""
        data = await self._blobs.get(objects.outcome(tenant, job))
        return Outcome.model_validate_json(data) if data else None

    async def manifest(self, tenant: str, job: str) -> Manifest | None:
        """The job's manifest, or None when there is no such job."""
        data = await self._blobs.get(objects.manifest(tenant, job))
        return Manifest.model_validate_json(data) if data else None

    async def parts(self, tenant: str, job: str) -> dict[int, Part]:
        """The parts that were cut, by number; binding for every later prepare."""
        found: dict[int, Part] = {}
        async for stat in self._blobs.list(objects.parts(tenant, job)):
            if stat.key.endswith(".json") and (data := await self._blobs.get(stat.key)):
                part = Part.model_validate_json(data)
                found[part.n] = part
        return found

    async def heard(self, tenant: str, job: str) -> set[int]:
        """The numbers of the parts whose words are stored."""
        prefix = objects.prefix(tenant, job) + "words/"
        return {int(stat.key.removeprefix(prefix).split(".")[0]) async for stat in self._blobs.list(prefix)}

    async def rebuild(self, tenant: str, job: str) -> Record | None:
        """Make the record again from the objects, if it is missing; None when there is no such job."""
        record = await self.view(tenant, job)
        if record is None:
            return None
        await self.create(record)
        return await self.get(tenant, job) or record

    async def view(self, tenant: str, job: str) -> Record | None:
        """The record as the objects tell it, without writing it; None when there is no such job."""
        outcome = await self.outcome(tenant, job)
        manifest = await self.manifest(tenant, job)
        if manifest is None:
            return None  # never was, or erased: a tombstone alone needs no record
        record = fresh(manifest)
        parts = await self.parts(tenant, job)
        plan_data = await self._blobs.get(objects.plan(tenant, job))
        plan = Plan.model_validate_json(plan_data) if plan_data else None
        heard = await self.heard(tenant, job) & parts.keys()
        known = plan.parts if plan else len(parts)
        record = record.model_copy(
            update={
                "state": State.RUNNING if heard else State.PREPARING if parts else State.ACCEPTED,
                "parts": known,
                "sealed": plan is not None,
                "done": format(sum(1 << n for n in heard), "x"),
                "duration": plan.duration if plan else max((part.end for part in parts.values()), default=0) / 16_000,
                "audio": sum(part.seconds for part in parts.values()),
                "audio_done": sum(parts[n].seconds for n in heard),
            }
        )
        return ended(record, outcome) if outcome is not None else record

    async def unseal(self, tenant: str, job: str) -> Record:
        """Take the seal off a job whose samples were lost, so that it is prepared again; its cuts stay binding.

        Does nothing to a job that is not sealed: a prepare of it is still to come, or under way.
        """
        sealed = False

        def reset(record: Record) -> Record | None:
            nonlocal sealed
            sealed = record.sealed
            return record.model_copy(update={"sealed": False, "parts": 0, "audio": 0.0}) if sealed else None

        record = await self.change(tenant, job, reset)
        if sealed and not record.state.terminal:
            await self._blobs.delete([objects.plan(tenant, job)])
            # All of them: some may be damaged, and what is there is not written again.
            await self.drop_samples(tenant, job)
        return record

    async def page(
        self, tenant: str, before: str | None, limit: int, states: Collection[State] | None = None
    ) -> list[Record]:
        """A tenant's records, newest first, older than the job `before`."""
        prefix = f"{tenant}."
        jobs = [key.removeprefix(prefix) async for key in self._kv.keys(tenant)]
        jobs = sorted((job for job in jobs if before is None or job < before), reverse=True)
        page: list[Record] = []
        for job in jobs:
            record = await self.get(tenant, job)
            if record is not None and (not states or record.state in states):
                page.append(record)
                if len(page) == limit:
                    break
        return page

    async def every(self) -> list[tuple[str, str]]:
        """All jobs that have a record, as (tenant, job): for the reconciler."""
        found = [key.partition(".") async for key in self._kv.keys(None)]
        return [(tenant, job) for tenant, _, job in found]
