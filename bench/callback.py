"""Callbacks: how long it takes from a job's end to the first call of who waits for it."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from bench.harness import Row, at, quantile, settle
from bench.rig import Rig
from infra.stack import Stack

P95 = 500.0
"""Milliseconds."""
PER_SECOND = 5
"""Jobs for each second that events are streamed in the row `relay`; as fast as the service takes them, four at once."""
AT_ONCE = 4


async def measure(rig: Rig) -> Row:
    """With the digest engine, so that jobs end often; by the stamps of the service itself."""
    count = round(PER_SECOND * rig.sizes.relay)
    delays, calls = await _run(rig, count)
    row = Row("a job's end to the first call of its receiver")
    row.figures.append(at(0.5, "p50", delays, "ms"))
    row.figures.append(at(0.95, "p95", delays, "ms", P95))
    row.figures.append(at(0.99, "p99", delays, "ms"))
    row.notes.append(
        f"{count} jobs, {calls / count:g} calls each; from the end of assembly, so with the outcome's two barriers; "
        f"longest {quantile(delays, 1):.0f} ms"
    )
    row.samples = {"delays": delays}
    return row


async def _run(rig: Rig, count: int) -> tuple[list[float], int]:
    """The delays in milliseconds, and how many calls came."""
    called: dict[str, asyncio.Event] = {}
    calls = itertools.count()

    async def take(request: web.Request) -> web.Response:
        next(calls)
        job = json.loads(await request.read())["data"]["job_id"]
        called.setdefault(job, asyncio.Event()).set()
        return web.Response(status=204)

    receiver = web.Application()
    receiver.router.add_post("/", take)
    runner = web.AppRunner(receiver, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    settings = {
        "keys": {"DESIFRE_QUOTA_JOBS": "5000"},
        "transcriber": {"DESIFRE_ENGINE": "digest"},
        "ingest": {
            "DESIFRE_CALLBACK_HTTP": "true",
            "DESIFRE_CALLBACK_HOSTS": json.dumps([f"127.0.0.1:{port}"]),
            "DESIFRE_RATE_LIMIT": "1000000/minute",
        },
    }
    [clip] = rig.speech.clips(1, 8, 10)
    try:
        async with rig.home() as home, Stack(home, settings=settings) as stack, aiohttp.ClientSession() as session:
            caller = _Caller(session, stack.http_url, f"http://127.0.0.1:{port}/", clip.path)
            await caller.sign_up()
            await settle()
            places = asyncio.Semaphore(AT_ONCE)

            async def one(n: int) -> float:
                async with places:
                    job = await caller.submit(n)
                    await asyncio.wait_for(called.setdefault(job, asyncio.Event()).wait(), 60)
                return await caller.delay(job)

            delays = await asyncio.gather(*(one(n) for n in range(count)))
    finally:
        await runner.cleanup()
    return delays, next(calls)


class _Caller:
    """Submits one recording again and again, each time as a job of its own."""

    def __init__(self, session: aiohttp.ClientSession, url: str, receiver: str, path: Path) -> None:
        self._session = session
        self._url = url
        self._receiver = receiver
        self._data = path.read_bytes()
        self._key = ""

    async def sign_up(self) -> None:
        async with self._session.post(f"{self._url}/generate-key", params={"username": "bench"}) as answer:
            self._key = (await answer.json())["api_key"]

    async def submit(self, n: int) -> str:
        headers = {"x-api-key": self._key, "Idempotency-Key": str(n)}
        params = {"callback_url": self._receiver}
        async with self._session.post(f"{self._url}/jobs", data=self._data, params=params, headers=headers) as answer:
            return str((await answer.json())["job_id"])

    async def delay(self, job: str) -> float:
        """Milliseconds from the job's end to its first call."""
        ended = float((await self._get(f"/jobs/{job}"))["timings"]["finished"])
        # The receiver knows of the call before the log does.
        while not (found := (await self._get(f"/jobs/{job}/deliveries"))["attempts"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return max(0.0, (float(found[0]["at"]) - ended) * 1000)

    async def _get(self, path: str) -> dict[str, Any]:
        async with self._session.get(self._url + path, headers={"x-api-key": self._key}) as answer:
            told: dict[str, Any] = await answer.json()
            return told
