"""No engine before the first part, none after the last: its memory is the machine's again."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.faults.checker import check_completed
from tests.faults.conftest import Recording, record
from tests.faults.support import Service, engine_of, engines, running, until

MIB = 1 << 20


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service whose engine goes when it had nothing to do for some seconds: long enough to be seen before."""
    settings = {"DESIFRE_IDLE_AFTER": "5", "DESIFRE_DIGEST_SPEED": "20"}
    async with running(tmp_path, {"transcriber": settings}) as service:
        yield service


@pytest.fixture
def clip() -> Recording:
    """Ten seconds."""
    return record(10)


def memory(service: Service) -> int:
    """Bytes (PSS) of the transcriber with all its children."""
    pid = service.stack.process("transcriber").pid
    assert pid is not None
    me = psutil.Process(pid)
    total = 0
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # one that ends meanwhile weighs nothing
            total += int(process.memory_full_info().pss)
    return total


async def none_left(service: Service) -> bool:
    """Whether there is no engine process."""
    return not engines(service)


async def test_an_engine_is_there_while_there_is_work(service: Service, clip: Recording) -> None:
    """The engine process comes with a job and goes after it, twice over, and takes its memory along."""
    me = await service.sign_up()
    assert not engines(service)
    with_engine, without, pids = [], [memory(service)], []
    for _ in range(2):
        job = await me.submit(clip.data)
        pids.append((await engine_of(service)).pid)
        await me.ended(job)
        with_engine.append(memory(service))
        check_completed(await service.evidence(me.tenant, job), clip.samples)
        await until(lambda: none_left(service), "the engine stays though it has nothing to do")
        without.append(memory(service))
    assert pids[0] != pids[1]
    assert min(with_engine) > max(without) - 5 * MIB
    # What the first job brings into the transcriber itself (buffers, connections) stays; a second brings no more.
    assert without[1] < without[0] + 40 * MIB
    assert without[2] < without[1] + 10 * MIB
