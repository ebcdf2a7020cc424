"""Recordings with the parts of a real service, up to three hours: whole, and in bounded memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from services.contracts.jobs import State
from tests.faults.checker import check_completed
from tests.faults.conftest import record
from tests.faults.support import Service, engines, running

MIB = 1 << 20
REAL = {
    "transcriber": {
        "DESIFRE_PART_SECONDS_FIRST": "60",
        "DESIFRE_PART_SECONDS_MIN": "120",
        "DESIFRE_PART_SECONDS_MAX": "300",
        "DESIFRE_ACK_WAIT": "30",
    }
}
"""The lengths that an operator has who sets nothing."""


class Scales:
    """The most memory (PSS, bytes) that was seen of ingest, and of the transcriber with its decoders."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.ingest = 0
        self.transcriber = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look ten times a second."""

        async def watch() -> None:
            while True:
                self.ingest = max(self.ingest, self.weigh("ingest"))
                self.transcriber = max(self.transcriber, self.weigh("transcriber"))
                await asyncio.sleep(0.1)

        task = asyncio.create_task(watch(), name="scales")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def weigh(self, name: str) -> int:
        """Bytes of a process and its children, but for the engine."""
        pid = self._service.stack.process(name).pid
        assert pid is not None
        engine = {process.pid for process in engines(self._service)}
        weight = 0
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            try:
                weight += 0 if process.pid in engine else int(process.memory_full_info().pss)
            except psutil.Error:  # a decoder that has just ended
                continue
        return weight


@pytest.mark.parametrize("minutes", [6, pytest.param(180, marks=pytest.mark.long)])
async def test_a_long_recording(tmp_path: Path, minutes: int) -> None:
    """All of it is heard once, and neither ingest nor the transcriber grows with its length."""
    lecture = record(60 * minutes)
    async with running(tmp_path, REAL) as service:
        scales = Scales(service)
        before = scales.weigh("ingest")
        me = await service.sign_up()
        async with scales.watching():
            job = await me.submit(lecture.data)
            assert (await me.ended(job, patience=60 + 10 * minutes))["state"] == State.COMPLETED
        evidence = await service.evidence(me.tenant, job)
        check_completed(evidence, lecture.samples)
        assert 60 * minutes / 300 <= evidence.record.parts <= 60 * minutes / 120 + 2
        assert scales.ingest - before <= 64 * MIB
        assert scales.transcriber <= 300 * MIB
