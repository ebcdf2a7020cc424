"""Ingest's use cases on a real bus, store and keys service; also a process that dies in the middle of an admission."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import Claims as Who
from services.contracts.auth import CreateKey, NewKey, Usage, UsageRequest
from services.contracts.events import Record
from services.contracts.jobs import Options, Outcome, State
from services.contracts.parts import Part, Plan
from services.contracts.transcript import Coverage, Ranges, Transcript
from services.ingest.admission import Admission, Admitted
from services.ingest.claims import Claims
from services.ingest.erase import Eraser
from services.ingest.jobs import Jobs
from services.ingest.quota import Quota
from services.ingest.reconcile import Pace, Reconciler
from services.ingest.sweep import Sweep
from services.runtime.blobs import Blobs, open_blobs
from services.runtime.bus import Bus, connect_bus
from services.runtime.patience import until_there
from services.runtime.records import Records
from services.runtime.settings import Settings

LIMIT = 20 << 20
OPTIONS = Options(model="base")
NEVER = Pace(every=3600, sweep_every=3600, stalled_after=3600)
AT_ONCE = Pace(every=3600, sweep_every=0, stalled_after=0)
Time = Callable[[], float]


@dataclass
class Ingest:
    """The use cases of one ingest process, without its HTTP door."""

    bus: Bus
    blobs: Blobs

    def __post_init__(self) -> None:
        self.records = Records(self.bus, self.blobs)
        self.claims = Claims(self.bus, self.records, abandoned_after=1800)
        self.quota = Quota(self.bus)
        self.admission = Admission(self.bus, self.blobs, self.records, self.claims, self.quota, max_upload=LIMIT)
        self.eraser = Eraser(self.blobs, self.records)
        self.jobs = Jobs(self.bus, self.blobs, self.records, self.eraser)

    def sweep(self, after: float = 3600, uploads_after: float = 3600) -> Sweep:
        return Sweep(self.quota, self.blobs, self.records, after=after, uploads_after=uploads_after)

    def reconciler(self, pace: Pace, sweep: Sweep | None = None) -> Reconciler:
        return Reconciler(self.bus, self.blobs, self.records, self.eraser, sweep or self.sweep(), pace)

    async def sign_up(self) -> Who:
        """A new tenant, as its verified key says."""
        ask = CreateKey(username="u", address="127.0.0.1")
        new = await until_there(lambda: self.bus.request(subjects.KEYS_CREATE, ask, NewKey))
        return Who(tenant=new.tenant, key_id=new.key_id, username=new.username, scopes=new.scopes)

    async def receive(self, who: Who, data: bytes, options: Options = OPTIONS, key: str | None = None) -> Admitted:
        return await self.admission.receive(who, pieces(data), options=options, idempotency_key=key)

    async def usage(self, who: Who) -> Usage:
        return await until_there(lambda: self.bus.request(subjects.KEYS_USAGE, UsageRequest(tenant=who.tenant), Usage))

    async def stored(self, tenant: str, job: str = "") -> list[str]:
        """Every key of a tenant, or of one of its jobs, below its prefix."""
        prefix = objects.prefix(tenant, job) if job else objects.tenant_prefix(tenant)
        return [stat.key.removeprefix(prefix) async for stat in self.blobs.list(prefix)]

    async def queued(self, tenant: str) -> list[str]:
        """The jobs and parts of a tenant that are on the bus: `<job>` or `<job>.<n>`."""
        found = await until_there(lambda: self.bus.counts(subjects.JOBS, f"jobs.*.{tenant}.*"))
        found |= await until_there(lambda: self.bus.counts(subjects.PARTS, f"parts.*.{tenant}.*.*"))
        assert set(found.values()) <= {1}
        return sorted(subject.split(".", 3)[3] for subject in found)

    async def cut(self, record: Record, parts: int, seconds: float = 2.0) -> Record:
        """Leave a job as a prepare does that has sealed it, but for its messages."""
        size = int(seconds * 16_000)
        for n in range(parts):
            part = Part(n=n, start=n * size, end=(n + 1) * size, sha256="0" * 64, speech=())
            await self.blobs.put_once(objects.part_meta(record.tenant, record.job, n), part.encode())
        plan = Plan(parts=parts, duration=parts * seconds)
        await self.blobs.put_once(objects.plan(record.tenant, record.job), plan.encode())
        update = {"state": State.RUNNING, "parts": parts, "sealed": True, "audio": parts * seconds}
        return await self.records.change(record.tenant, record.job, lambda r: r.model_copy(update=update))

    async def complete(self, record: Record) -> Outcome:
        """End a job as an assembly does."""
        data = transcript(record.job).encode()
        await self.blobs.put_once(objects.transcript(record.tenant, record.job), data)
        outcome = ended(record, State.COMPLETED, sha256=hashlib.sha256(data).hexdigest())
        return await self.records.finish(outcome, record.tenant)


def ended(record: Record, state: State, **more: object) -> Outcome:
    timings = record.timings.model_copy(update={"finished": record.timings.accepted + 1})
    return Outcome(job=record.job, state=state, timings=timings).model_copy(update=more)


def transcript(job: str) -> Transcript:
    none = Ranges(seconds=0)
    coverage = Coverage(decoded=1, transcribed=0, non_speech=Ranges(seconds=1), failed=none, suspect=none)
    return Transcript(
        job=job, model="base", task="transcribe", language="en", duration=1, text="", segments=(), coverage=coverage
    )


async def pieces(data: bytes, size: int = 70_001) -> AsyncIterator[bytes]:
    """Bytes as they come from a socket."""
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)


def settings_of(stack: Stack, service: str = "ingest") -> Settings:
    """What the launcher gives a service of this stack, in so far as every process has it."""
    environ = stack.wiring.service_environment(service, service)
    names = {name.upper(): name for name in Settings.model_fields}
    known = {name.removeprefix("DESIFRE_"): value for name, value in environ.items() if name.startswith("DESIFRE_")}
    return Settings(**{names[name]: value for name, value in known.items() if name in names})  # type: ignore[arg-type]


@asynccontextmanager
async def open_ingest(settings: Settings) -> AsyncIterator[Ingest]:
    async with connect_bus(settings) as bus, open_blobs(settings) as blobs:
        await bus.ensure_streams()
        yield Ingest(bus, blobs)


async def admit_and_die(stack: Stack, failpoint: str, who: Who, body: Path, key: str | None = None) -> None:
    """Admit in a process of its own, which dies at `failpoint` as by `kill -9`."""
    await _die(stack, failpoint, "admit", who.model_dump_json(), str(body), *([key] if key else []))


async def delete_and_die(stack: Stack, failpoint: str, record: Record) -> None:
    """Cancel or erase in a process of its own, which dies at `failpoint` as by `kill -9`."""
    await _die(stack, failpoint, "delete", record.tenant, record.job)


async def _die(stack: Stack, failpoint: str, *arguments: str) -> None:
    environ = stack.wiring.service_environment("ingest", "ingest") | {"DESIFRE_FAILPOINT": failpoint}
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, *arguments, env=environ)
    assert await child.wait() == 137, f"{failpoint} was not reached"


async def _act(action: str, *arguments: str) -> None:
    async with open_ingest(Settings()) as ingest:
        if action == "delete":
            await ingest.jobs.cancel_or_erase(*arguments)
        else:
            who, body, *key = arguments
            await ingest.receive(Who.model_validate_json(who), Path(body).read_bytes(), key=key[0] if key else None)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    asyncio.run(_act(*sys.argv[1:]))
