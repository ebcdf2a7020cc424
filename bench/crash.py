"""A job after `kill -9` of the transcriber in the middle of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from statistics import median

import nats
from nats.aio.msg import Msg

from bench.harness import Figure, Row, middle, settle
from bench.rig import Rig, Service
from services.contracts import subjects
from services.contracts.events import Record

LIMIT = 45.0
LONGEST_PART, LONGEST_PART_SECONDS = "DESIFRE_PART_SECONDS_MAX", 300.0
"""The setting, and its default."""
INTO_PART = 2.0
"""Seconds after a part's end at which the kill comes: the next one is on the engine then."""


async def measure(rig: Rig) -> Row:
    """How long nothing goes on, and what is done twice. Once without a kill, to compare."""
    recording = rig.speech.long(rig.sizes.long)
    goes_on, next_part, begun, again, whole = [], [], [], [], []
    async with rig.service(rig.sizes.parts) as service:
        transcriber = service.stack.process("transcriber")
        before = await heard(service)
        undisturbed = (await (await service.client()).transcribe(recording.path)).seconds
        needed = await heard(service) - before
        for _ in range(rig.pairs):
            await settle()
            client = await service.client()
            async with records(service) as changes:
                before = await heard(service)
                began = time.perf_counter()
                job = await client.submit(recording.path)
                trial = Trial(changes, job)
                await trial.until(lambda record: bool(record.bits) and not record.complete)
                await asyncio.sleep(min(INTO_PART, recording.seconds / 300))
                lost = await heard(service) - before
                transcriber.kill()
                killed = time.perf_counter()
                then = trial.caught_up()
                await trial.until(partial(_begun_since, then))
                goes_on.append(time.perf_counter() - killed)
                await trial.until(partial(_done_since, then))
                next_part.append(time.perf_counter() - killed)
                await client.completed(job)
                whole.append(time.perf_counter() - began)
                trial.caught_up()
            await service.stack.wait_all_ready()
            begun.append(len(trial.twice))
            again.append(round(max(0.0, lost + await heard(service) - needed), 1))
    longest = float(rig.sizes.parts.get(LONGEST_PART, LONGEST_PART_SECONDS))
    row = Row(f"a recording of {recording.seconds:.0f} s whose transcriber is killed in the middle (kill -9)")
    row.figures.append(middle("goes on after", goes_on, "s", LIMIT))
    row.figures.append(Figure("audio heard twice, most", max(again), "s", min(again), max(again), len(again), longest))
    row.notes.append(f"parts begun twice: {', '.join(map(str, begun))}; a part is at most {longest:.0f} s")
    row.notes.append("batches in flight at the kill, at most one per slot, are done again besides")
    row.notes.append(f"the next part is done after {median(next_part):.1f} s; the whole took {median(whole):.1f} s")
    row.notes.append(f"without a kill it takes {undisturbed:.1f} s")
    row.samples = {"goes on": goes_on, "next part": next_part, "begun twice": begun, "heard twice": again, "all": whole}
    return row


async def heard(service: Service) -> float:
    """Seconds of audio that the transcriber's present run had the engine hear, batches that are done."""
    port = service.stack.process("transcriber").spec.ready_port
    async with service.session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("desifre_audio_seconds_total "))


def _begun_since(before: Record, record: Record) -> bool:
    return record.counters.starts != before.counters.starts


def _done_since(before: Record, record: Record) -> bool:
    return record.bits != before.bits


class Trial:
    """One job's record as it changes."""

    def __init__(self, changes: "asyncio.Queue[Record]", job: str) -> None:
        self._changes = changes
        self._job = job
        self._last: Record | None = None
        self.twice: set[str] = set()
        """Units that were begun again after they had been begun and not ended."""

    async def until(self, condition: Callable[[Record], bool]) -> Record:
        """The first record from now on for which this holds. Raises RuntimeError when the job ends before that."""
        while True:
            record = await self._changes.get()
            if self._take(record):
                if condition(record):
                    return record
                if record.state.terminal:
                    raise RuntimeError("the job ended too soon: the recording has too few parts to be interrupted")

    def caught_up(self) -> Record:
        """The newest record."""
        while not self._changes.empty():
            self._take(self._changes.get_nowait())
        assert self._last is not None
        return self._last

    def _take(self, record: Record) -> bool:
        if record.job != self._job:
            return False
        self._last = record
        self.twice |= {name for name, count in record.counters.starts.items() if count > 1}
        return True


@asynccontextmanager
async def records(service: Service) -> AsyncIterator["asyncio.Queue[Record]"]:
    """Every change of every record, as ingest hears of them."""
    changes: asyncio.Queue[Record] = asyncio.Queue()

    async def heard(message: Msg) -> None:
        changes.put_nowait(Record.model_validate_json(message.data))

    stack = service.stack
    connection = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password())
    try:
        await connection.subscribe(f"{subjects.RELAY}.{subjects.ALL_STATES}", cb=heard)
        await connection.flush()
        yield changes
    finally:
        await connection.close()
