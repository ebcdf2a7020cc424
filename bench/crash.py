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
REPEATED = 1.0
INTO_PART = 2.0
"""Seconds after a part's end at which the kill comes: the next one is on the engine then."""


async def measure(rig: Rig) -> Row:
    """How long nothing goes on, and what is done twice. Once without a kill, to compare."""
    recording = rig.speech.long(rig.sizes.long)
    goes_on, next_part, repeated, whole = [], [], [], []
    async with rig.service(rig.sizes.parts) as service:
        undisturbed = (await (await service.client()).transcribe(recording.path)).seconds
        for _ in range(rig.pairs):
            await settle()
            client = await service.client()
            async with records(service) as changes:
                began = time.perf_counter()
                job = await client.submit(recording.path)
                trial = Trial(changes, job)
                await trial.until(lambda record: bool(record.bits) and not record.complete)
                await asyncio.sleep(min(INTO_PART, recording.seconds / 300))
                service.stack.process("transcriber").kill()
                killed = time.perf_counter()
                before = trial.caught_up()
                await trial.until(partial(_begun_since, before))
                goes_on.append(time.perf_counter() - killed)
                await trial.until(partial(_done_since, before))
                next_part.append(time.perf_counter() - killed)
                await client.completed(job)
                whole.append(time.perf_counter() - began)
                trial.caught_up()
                repeated.append(float(len(trial.twice)))
            await service.stack.wait_all_ready()
    row = Row(f"a recording of {recording.seconds:.0f} s whose transcriber is killed in the middle (kill -9)")
    row.figures.append(middle("goes on after", goes_on, "s", LIMIT))
    row.figures.append(Figure("parts begun twice, at most", max(repeated), "", count=len(repeated), target=REPEATED))
    row.notes.append(f"the next part is done after {median(next_part):.1f} s; the whole took {median(whole):.1f} s")
    row.notes.append(f"without a kill it takes {undisturbed:.1f} s")
    row.samples = {"goes on": goes_on, "next part": next_part, "repeated": repeated, "whole": whole}
    return row


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
