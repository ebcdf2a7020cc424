"""The load of `relay`, in a process of its own: makes jobs, watches them, publishes events and takes the time.

Started by `relay`, which writes one line of JSON (see `Load`) and reads one for each step: `made`, then after a line on
standard input `measured` with the milliseconds of every event from just before its publishing until its socket had it.
"""

import asyncio
import functools
import json
import re
import sys
import time
from dataclasses import asdict, dataclass

import aiohttp
import nats

from services.contracts import subjects
from services.contracts.events import SegmentsEvent
from services.contracts.transcript import Segment, Word

PART = re.compile(r'"part":(\d+)')
TICK = 0.01
"""Seconds between two looks whether this process itself is late."""
AFTER = 20.0
"""Seconds that the last events are waited for."""
AT_ONCE = 16
"""Submissions, and sockets, under way at once."""


@dataclass(frozen=True)
class Load:
    """What to do: `sockets` on `jobs` jobs in turn, `rate` events per second in all, for `seconds`."""

    http_url: str
    nats_url: str
    nats_user: str
    nats_password: str
    jobs: int
    sockets: int
    rate: float
    seconds: float


@dataclass
class Measured:
    """Milliseconds of each event and socket; how late this process was at its own clock; events not as sent."""

    latency: list[float]
    store: list[float]
    """Until the bus had synced the event to its disk and said so: what no relay can be faster than."""
    lag: list[float]
    lost: int = 0
    repeated: int = 0
    seconds: float = 0.0
    """From the first event to the last."""
    cores: float = 0.0
    """That this process used meanwhile."""


def words(job: str, n: int) -> bytes:
    """The words of a part as the engine sends them: about two kilobytes, ten seconds of speech."""
    spoken = tuple(Word(word=f" word{i}", start=i / 3, end=i / 3 + 0.3, probability=0.9) for i in range(30))
    segment = Segment(start=0, end=10, text="".join(word.word for word in spoken), words=spoken, language="en")
    return SegmentsEvent(job=job, part=n, start=0, end=10, segments=(segment,)).encode()


class Run:
    """One run of a load."""

    def __init__(self, load: Load, session: aiohttp.ClientSession) -> None:
        self._load = load
        self._session = session
        self._key = ""
        self._cpu = 0.0
        self._jobs: list[str] = []
        self._sent: dict[int, float] = {}
        self.measured = Measured([], [], [])

    async def make_jobs(self) -> None:
        """A tenant and its jobs, which nobody will do."""
        async with self._session.post(f"{self._load.http_url}/generate-key?username=bench") as answer:
            self._key = (await answer.json())["api_key"]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(n: int) -> str:
            headers = self._headers | {"Idempotency-Key": str(n)}
            async with (
                gate,
                self._session.post(f"{self._load.http_url}/jobs", data=b"sound", headers=headers) as answer,
            ):
                return str((await answer.json())["job_id"])

        self._jobs = await asyncio.gather(*map(one, range(self._load.jobs)))

    async def measure(self) -> Measured:
        """Open the sockets, publish at the rate, and wait for the last event."""
        gate = asyncio.Semaphore(AT_ONCE)
        sockets = await asyncio.gather(*(self._open(gate, n) for n in range(self._load.sockets)))
        reading = [asyncio.create_task(self._read(ws, n), name="read") for n, ws in enumerate(sockets)]
        lag = asyncio.create_task(self._watch_lag(), name="lag")
        await self._publish()
        await asyncio.wait(reading, timeout=AFTER)
        self.measured.seconds = time.perf_counter() - self._sent[0]
        self.measured.cores = (time.process_time() - self._cpu) / self.measured.seconds
        for task in (lag, *reading):
            task.cancel()
        await asyncio.gather(lag, *reading, return_exceptions=True)
        await asyncio.gather(*(ws.close() for ws in sockets))
        return self.measured

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-api-key": self._key}

    async def _open(self, gate: asyncio.Semaphore, n: int) -> aiohttp.ClientWebSocketResponse:
        async with gate:
            ws = await self._session.ws_connect(f"{self._load.http_url}/ws", headers=self._headers)
            await ws.send_json({"type": "watch", "job_id": self._jobs[n % len(self._jobs)]})
            for _ in ("watching", "accepted"):
                await ws.receive(timeout=AFTER)
            return ws

    async def _read(self, ws: aiohttp.ClientWebSocketResponse, n: int) -> None:
        """Every event of the socket's job; that nothing came twice is shown by the pong, which comes right after."""
        job, events = n % len(self._jobs), round(self._load.rate * self._load.seconds)
        missing = set(range(job, events, len(self._jobs)))
        self.measured.lost += len(missing)
        while missing:
            message = await ws.receive()
            now = time.perf_counter()
            part = int(PART.search(message.data)[1])  # type: ignore[index]
            self.measured.latency.append(1000 * (now - self._sent[part]))
            if part in missing:
                missing.remove(part)
                self.measured.lost -= 1
            else:
                self.measured.repeated += 1
        await ws.send_json({"type": "ping"})
        self.measured.repeated += "pong" not in (await ws.receive()).data

    async def _publish(self) -> None:
        load = self._load
        nc = await nats.connect(
            load.nats_url,
            user=load.nats_user,
            password=load.nats_password,
            inbox_prefix=subjects.inbox(load.nats_user).encode(),
        )
        try:
            js, tenant = nc.jetstream(), await self._tenant()
            self._cpu = time.process_time()
            began, acks = time.perf_counter(), []
            for n in range(round(load.rate * load.seconds)):
                job = self._jobs[n % len(self._jobs)]
                data = words(job, n)
                await asyncio.sleep(max(0.0, began + n / load.rate - time.perf_counter()))
                self._sent[n] = time.perf_counter()
                acks.append(ack := await js.publish_async(subjects.segments(tenant, job), data))
                ack.add_done_callback(functools.partial(self._stored, n))
            await asyncio.gather(*acks)
        finally:
            await nc.close()

    def _stored(self, n: int, _: object) -> None:
        self.measured.store.append(1000 * (time.perf_counter() - self._sent[n]))

    async def _tenant(self) -> str:
        """From the standard input: whose jobs these are is nothing that a client is told."""
        print(json.dumps({"step": "jobs", "job": self._jobs[0]}), flush=True)
        line: str = await asyncio.to_thread(sys.stdin.readline)
        return line.strip()

    async def _watch_lag(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self.measured.lag.append(1000 * (time.perf_counter() - before - TICK))


async def main() -> None:
    """Do what the first line of standard input says."""
    load = Load(**json.loads(sys.stdin.readline()))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        run = Run(load, session)
        await run.make_jobs()
        print(json.dumps({"step": "made"}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        measured = await run.measure()
    print(json.dumps({"step": "measured", **asdict(measured)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
