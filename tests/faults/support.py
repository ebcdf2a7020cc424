"""A whole service to be hurt, callers that do not give up, and what is left of a job to be examined."""

import asyncio
import contextlib
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil

from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import CreateKey, NewKey, Usage, UsageRequest
from services.contracts.jobs import State
from services.runtime.blobs import Blobs, open_blobs
from services.runtime.bus import Bus, connect_bus
from services.runtime.jsapi import Unavailable
from services.runtime.records import Records
from tests.faults.checker import Event, Evidence, event_of
from tests.support import operator_of

T = TypeVar("T")

PATIENCE = 90.0
"""Seconds for which a caller tries again, and for which a test waits for what must come."""
SHORT = {
    "transcriber": {
        "DESIFRE_ENGINE": "digest",
        "DESIFRE_ACK_WAIT": "1.5",
        "DESIFRE_PART_SECONDS_FIRST": "10",
        "DESIFRE_PART_SECONDS_MIN": "10",
        "DESIFRE_PART_SECONDS_MAX": "30",
    },
    "ingest": {"DESIFRE_STALLED_AFTER": "1", "DESIFRE_RECONCILE_EVERY": "0.5", "DESIFRE_RATE_LIMIT": "100000/minute"},
}
"""Everything that makes one wait, made short; several parts out of a minute and a half."""


@dataclass(frozen=True, slots=True)
class Service:
    """The whole stack, with the operator's hand in the bus and in the store."""

    stack: Stack
    session: aiohttp.ClientSession
    bus: Bus
    blobs: Blobs
    records: Records

    async def sign_up(self) -> "Tenant":
        """A fresh tenant with a key."""

        async def ask() -> NewKey:
            return await self.bus.request(
                subjects.KEYS_CREATE, CreateKey(username="somebody", address="127.0.0.1"), NewKey
            )

        new = await patiently(ask)
        return Tenant(self, new.tenant, new.api_key)

    def arm(self, name: str, point: str) -> int:
        """Have a process die at this failpoint, once; returns the number of the run that will."""
        (self.stack.home.root / f"{name}.failpoint").write_text(point)
        return self.stack.process(name).runs

    async def died(self, name: str, run: int) -> None:
        """Wait until this run has died at its failpoint, and nowhere else, and the next one is ready."""
        process = self.stack.process(name)
        assert await process.wait_exit(run, PATIENCE) == 137
        await process.wait_run(run + 1)
        assert process.runs == run + 1

    async def kill(self, name: str) -> None:
        """`kill -9`, and wait until it runs again."""
        process = self.stack.process(name)
        run = process.runs
        process.kill()
        await process.wait_run(run + 1)

    async def queued(self, tenant: str = "*") -> list[str]:
        """Every message of a tenant (or of all) on JOBS and PARTS: queued, or in hand."""
        found = await self.bus.counts(subjects.JOBS, f"jobs.*.{tenant}.*")
        found |= await self.bus.counts(subjects.PARTS, f"parts.*.{tenant}.*.*")
        return sorted(found)

    async def stored(self, tenant: str, job: str) -> frozenset[str]:
        """Every object of a job, below its prefix."""
        prefix = objects.prefix(tenant, job)
        return frozenset([stat.key.removeprefix(prefix) async for stat in self.blobs.list(prefix)])

    async def folders(self, tenant: str) -> dict[str, set[str]]:
        """Every object of a tenant, by job."""
        found: dict[str, set[str]] = {}
        async for stat in self.blobs.list(objects.tenant_prefix(tenant)):
            _, _, job, name = stat.key.split("/", 3)
            found.setdefault(job, set()).add(name)
        return found

    async def events(self, tenant: str = "*", job: str = "*") -> tuple[Event, ...]:
        """What RESULTS holds of a job (or of all), in order."""
        inbox, found = self.bus.nc.new_inbox(), []
        replies = await self.bus.nc.subscribe(inbox)
        wanted = {"seq": 1, "next_by_subj": f"results.{tenant}.{job}.>", "batch": 1000}
        await self.bus.nc.publish(f"$JS.API.DIRECT.GET.{subjects.RESULTS}", json.dumps(wanted).encode(), reply=inbox)
        while "Status" not in (headers := (reply := await replies.next_msg(5)).headers or {}):
            found.append(event_of(headers["Nats-Subject"], reply.data))
        await replies.unsubscribe()
        return tuple(found)

    async def evidence(self, tenant: str, job: str) -> Evidence:
        """Everything that is left of a job that has ended, once nothing of it is on the bus any more."""
        await until(lambda: self._is_quiet(tenant), "messages are left on the bus")
        # They go just after the record tells of the end, which is seen here if the job's last message was lost.
        await until(lambda: self._has_no_samples(tenant, job), "samples were left")
        record = await self.records.get(tenant, job)
        outcome = await self.records.outcome(tenant, job)
        assert record is not None, "the record is gone"
        assert outcome is not None, "there is no outcome"
        await until(lambda: self._has_event(tenant, job), "the last state never became an event")
        return Evidence(
            record=record,
            outcome=outcome,
            transcript=await self.blobs.get(objects.transcript(tenant, job)),
            stored=await self.stored(tenant, job),
            events=await self.events(tenant, job),
        )

    async def _has_no_samples(self, tenant: str, job: str) -> bool:
        return not any(name.endswith(".pcm") for name in await self.stored(tenant, job))

    async def _is_quiet(self, tenant: str) -> bool:
        return not await self.queued(tenant)

    async def _has_event(self, tenant: str, job: str) -> bool:
        record = await self.records.get(tenant, job)
        return record in await self.events(tenant, job)

    async def usage(self, tenant: str) -> Usage:
        """The tenant's usage, as the ledger has it."""
        return await self.bus.request(subjects.KEYS_USAGE, UsageRequest(tenant=tenant), Usage)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Somebody with a key, who repeats a request until it is answered, as a good client does."""

    service: Service
    tenant: str
    api_key: str

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None, **more: Any
    ) -> bytes:
        """One request, repeated while the door is closed or answers that it cannot; the body of the answer."""
        url = self.service.stack.http_url + path
        asked = {"x-api-key": self.api_key, **(headers or {})}
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                timeout = aiohttp.ClientTimeout(total=30)
                data = None if body is None else io.BytesIO(body)
                async with self.service.session.request(
                    method, url, headers=asked, data=data, timeout=timeout, **more
                ) as answer:
                    said = await answer.read()
                    if answer.status < 400:
                        return said
                    assert answer.status >= 500, (answer.status, said)
                    assert time.monotonic() < deadline, (answer.status, said)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                assert time.monotonic() < deadline, "the door stays closed"
            await asyncio.sleep(0.05)

    async def submit(self, data: bytes, key: str | None = None, **options: str) -> str:
        """Submit a recording under one `Idempotency-Key`; the job's id."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return str(json.loads(await self.ask("POST", "/jobs", headers, data, params=options))["job_id"])

    async def look(self, job: str, wait: float = 0) -> dict[str, Any]:
        """The job as it stands, or as soon as it moves."""
        found: dict[str, Any] = json.loads(await self.ask("GET", f"/jobs/{job}", params={"wait": str(wait)}))
        return found

    async def ended(self, job: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The job once it has ended."""
        deadline = time.monotonic() + patience
        while not State((job_view := await self.look(job, wait=5))["state"]).terminal:
            assert time.monotonic() < deadline, f"it does not end: {job_view}"
        return job_view

    async def cancel(self, job: str) -> dict[str, Any]:
        """Ask for the job's end, once."""
        found: dict[str, Any] = json.loads(await self.ask("DELETE", f"/jobs/{job}"))
        return found

    async def jobs(self) -> list[str]:
        """The ids of all jobs, newest first."""
        return [job["job_id"] for job in json.loads(await self.ask("GET", "/jobs?limit=200"))["jobs"]]


@asynccontextmanager
async def running(home: Path, settings: Mapping[str, Mapping[str, str]] | None = None) -> AsyncIterator[Service]:
    """A service of one's own with short times, ready; `settings` per service go before `SHORT`."""
    more = settings or {}
    merged = {
        name: {"DESIFRE_FAILPOINT": f"file@{home}/{name}.failpoint", **SHORT.get(name, {}), **more.get(name, {})}
        for name in ("transcriber", "ingest", "keys")
    }
    async with (
        Stack(home, settings=merged, longest_restart_delay=0.05) as stack,
        aiohttp.ClientSession() as session,
    ):
        operator = operator_of(stack)
        async with connect_bus(operator) as bus, open_blobs(operator) as blobs:
            yield Service(stack, session, bus, blobs, Records(bus, blobs))


def engines(service: Service, name: str = "transcriber") -> list[psutil.Process]:
    """The engine processes of a transcriber."""
    pid = service.stack.process(name).pid
    found = []
    for child in psutil.Process(pid).children() if pid is not None else []:
        with contextlib.suppress(psutil.Error):
            if "services.transcriber.engine.child" in child.cmdline():
                found.append(child)
    return found


async def engine_of(service: Service, but: int | None = None) -> psutil.Process:
    """The transcriber's engine process, as soon as there is one, and another than `but`."""

    async def there() -> bool:
        return any(engine.pid != but for engine in engines(service))

    await until(there, "no engine was started")
    return next(engine for engine in engines(service) if engine.pid != but)


def today() -> date:
    """The day that the ledger counts on: what is used before midnight does not count after it."""
    return datetime.now(UTC).date()


async def until(condition: Callable[[], Awaitable[bool]], otherwise: str, patience: float = PATIENCE) -> None:
    """Return as soon as `condition` holds; a bus or a store that is away does not count as no."""
    deadline = time.monotonic() + patience
    while not await patiently(condition):
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.02)


async def patiently(ask: Callable[[], Awaitable[T]], patience: float = PATIENCE) -> T:
    """The answer, as soon as what is asked is there again."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return await ask()
        except Unavailable:
            assert time.monotonic() < deadline, "it stays away"
            await asyncio.sleep(0.05)
