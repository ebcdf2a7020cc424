"""A caller of the HTTP door, and a hand that ends jobs as an engine would, where a test wants no engine."""

import asyncio
import hashlib
import io
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from infra.stack import Stack
from services.contracts import objects
from services.contracts.jobs import Failure, Outcome, State
from services.contracts.transcript import Coverage, Ranges, Segment, Transcript, Word
from services.runtime.blobs import Blobs
from services.runtime.bus import Bus
from services.runtime.records import Records

LIMIT = 2 << 20
"""Bytes that the front's settings allow of an upload."""
NOTHING = Ranges(seconds=0.0)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem, which the routes below /v1 say in OpenAI's shape."""
        kind, document = self.headers["Content-Type"], self.json()
        if "error" in document:
            assert kind.startswith("application/json"), self.body
            return str(document["error"]["code"])
        assert kind.startswith("application/problem+json"), self.body
        return str(document["code"])


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody with a key (or without one)."""

    session: aiohttp.ClientSession
    base: str
    key: str | None = None
    key_id: str = ""

    async def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
        """One request."""
        own = {"x-api-key": self.key} if self.key else {}
        async with self.session.request(method, self.base + path, headers={**own, **(headers or {})}, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def sign_up(self, username: str = "somebody") -> "Caller":
        """A fresh tenant."""
        async with asyncio.timeout(60):
            while (reply := await self("POST", "/generate-key", params={"username": username})).status == 503:
                await asyncio.sleep(0.2)  # on a busy machine keys, or the bus, may stand still for seconds
        assert reply.status == 200, reply.body
        return Caller(self.session, self.base, reply.json()["api_key"], reply.json()["key_id"])

    async def submit(self, data: bytes = b"sound", **params: str) -> str:
        """A job, admitted; its id."""
        reply = await self("POST", "/jobs", params=params, data=data)
        assert reply.status == 202, reply.body
        return str(reply.json()["job_id"])


def form(data: bytes = b"sound", name: str = "talk.wav", *, first: bool = True, **fields: str) -> aiohttp.FormData:
    """A form with a file, before (`first`) or after its other fields."""
    found = aiohttp.FormData(quote_fields=False)
    if first:
        found.add_field("file", io.BytesIO(data), filename=name)
    for field, value in fields.items():
        found.add_field(field, value)
    if not first:
        found.add_field("file", io.BytesIO(data), filename=name)
    return found


@dataclass(frozen=True, slots=True)
class Front:
    """Bus, store, keys and ingest without an engine, with narrow limits."""

    stack: Stack
    nobody: Caller
    bus: Bus
    blobs: Blobs
    records: Records

    async def tenant_of(self, job: str) -> str:
        """Whose job this is."""
        found = [tenant for tenant, one in await self.records.every() if one == job]
        return found[0]

    async def stored(self, tenant: str) -> list[str]:
        """Every object of a tenant."""
        return [stat.key async for stat in self.blobs.list(objects.tenant_prefix(tenant))]

    async def complete(self, job: str, text: str = "hello world") -> Transcript:
        """End a job as the last engine does: transcript, outcome, record."""
        tenant = await self.tenant_of(job)
        words = tuple(
            Word(word=f" {word}", start=float(n), end=n + 0.8, probability=0.9) for n, word in enumerate(text.split())
        )
        end = float(len(words))
        found = Transcript(
            job=job,
            model="base",
            task="transcribe",
            language="en",
            duration=end,
            text=text,
            segments=(Segment(start=0, end=end, text=f" {text}", words=words, language="en"),),
            coverage=Coverage(decoded=end, transcribed=end, non_speech=NOTHING, failed=NOTHING, suspect=NOTHING),
        )
        await self.blobs.put_once(objects.transcript(tenant, job), found.encode())
        await self._finish(tenant, job, State.COMPLETED, sha256=hashlib.sha256(found.encode()).hexdigest())
        return found

    async def fail(self, job: str, code: str, message: str) -> None:
        """End a job with a failure."""
        await self._finish(await self.tenant_of(job), job, State.FAILED, failure=Failure(code=code, message=message))

    async def _finish(self, tenant: str, job: str, state: State, **more: Any) -> None:
        record = await self.records.get(tenant, job)
        assert record is not None
        now = time.time()
        timings = record.timings.model_copy(update={"started": now, "finished": now})
        await self.records.finish(Outcome(job=job, state=state, timings=timings, **more), tenant)

    async def newest(self, caller: Caller) -> str:
        """A caller's newest job, waited for."""
        pause = 0.05
        async with asyncio.timeout(60):
            while not (jobs := (await caller("GET", "/jobs")).json()["jobs"]):
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.5)  # the caller may ask only so often
        return str(jobs[0]["job_id"])

    async def logged(self, *texts: str) -> str:
        """Everything that the processes wrote, as soon as all of this is in it."""
        async with asyncio.timeout(60):
            while True:
                files = [path for path in self.stack.home.logs.rglob("*") if path.is_file()]
                written = "".join(path.read_text(errors="replace") for path in files)
                if all(text in written for text in texts):
                    return written
                await asyncio.sleep(0.05)
