"""Processes of the service are killed at random while callers go on: every recording that was taken becomes words."""

import asyncio
import random
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from services.contracts.jobs import State
from tests.faults.checker import check_completed, check_ended
from tests.faults.conftest import Recording, record
from tests.faults.support import PATIENCE, Service, Tenant, running, today, until

PROCESSES = ("nats", "s3", "keys", "ingest", "transcriber")
CALLERS = 3


async def chaos(home: Path, recordings: list[Recording], kills: int, seed: int) -> Counter[str]:
    """Kill so many times while callers submit one recording after another; how often who was killed."""
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    over = asyncio.Event()
    # A unit is not given up, however often who holds it is killed.
    slow = {"transcriber": {"DESIFRE_DIGEST_SPEED": "100", "DESIFRE_MAX_STARTS": "1000"}}
    async with running(home, slow) as service:

        async def call(me: Tenant, order: random.Random) -> list[tuple[str, Recording]]:
            taken: list[tuple[str, Recording]] = []
            while not over.is_set():
                recording = order.choice(recordings)
                job = await me.submit(recording.data)
                taken.append((job, recording))
                if order.random() < 0.2:
                    await me.cancel(job)
                await me.ended(job, PATIENCE + 2 * kills)
            return taken

        mine, day = [await service.sign_up() for _ in range(CALLERS)], today()
        callers = [
            asyncio.create_task(call(me, random.Random(f"{seed}/{n}")), name=f"caller {n}") for n, me in enumerate(mine)
        ]
        for _ in range(kills):
            # Sometimes before what was killed last is whole again, which is when it hurts most.
            await asyncio.sleep(chance.uniform(0.2, 2.5))
            name = chance.choice(PROCESSES)
            await until(lambda name=name: runs(service, name), f"{name} does not run again")  # type: ignore[misc]
            service.stack.process(name).kill()
            killed[name] += 1
        over.set()
        for me, taken in zip(mine, await asyncio.gather(*callers), strict=True):
            await examine(service, me, taken, day)
    return killed


async def runs(service: Service, name: str) -> bool:
    """Whether there is a process to be killed."""
    return service.stack.process(name).pid is not None


async def examine(service: Service, me: Tenant, taken: list[tuple[str, Recording]], day: date) -> None:
    """Every job that was answered has ended well or as asked, the tenant has no other, and pays for these alone."""
    assert taken
    assert sorted(await me.jobs()) == sorted(job for job, _ in taken)
    seconds = 0.0
    for job, recording in taken:
        evidence = await service.evidence(me.tenant, job)
        if evidence.record.state in (State.CANCELLED, State.ERASED):
            check_ended(evidence)
        else:
            check_completed(evidence, recording.samples)
        seconds += evidence.record.seconds or 0.0
    if today() == day:
        await until(lambda: pays(service, me, seconds), "the ledger does not agree")


async def pays(service: Service, me: Tenant, seconds: float) -> bool:
    """Whether the ledger says that this tenant used so much."""
    return abs((await service.usage(me.tenant)).seconds_today - seconds) < 0.01


@pytest.fixture(scope="module")
def recordings(recording: Recording) -> list[Recording]:
    """A short one, a middling one and one of several parts."""
    return [record(5), record(20), recording]


async def test_a_few_random_kills(tmp_path: Path, recordings: list[Recording]) -> None:
    """Eight kills of whichever process, under load: nothing lost, nothing twice, nothing left over."""
    killed = await chaos(tmp_path, recordings, kills=8, seed=7)
    assert killed.total() == 8


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
async def test_many_random_kills(tmp_path: Path, recordings: list[Recording], seed: int) -> None:
    """Sixty kills of all five processes, under load: nothing lost, nothing twice, nothing left over."""
    killed = await chaos(tmp_path, recordings, kills=60, seed=seed)
    assert set(killed) == set(PROCESSES)
