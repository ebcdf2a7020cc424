"""The real engine as a process: there while there is work, gone after it, and of bounded size."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from infra.stack import Stack
from tests import media, speech
from tests.doors.caller import Caller, form
from tests.pipeline.answers import check, transcribe

MIB = 1 << 20


def family(stack: Stack) -> list[psutil.Process]:
    """The transcriber and its children."""
    process = psutil.Process(stack.process("transcriber").pid)
    return [process, *process.children(recursive=True)]


def engine(stack: Stack) -> psutil.Process | None:
    """The engine process, if there is one."""
    for process in family(stack):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "services.transcriber.engine.child" in process.cmdline():
                return process
    return None


def memory(stack: Stack) -> int:
    """Bytes (PSS) of the transcriber with all its children; one that ends meanwhile weighs nothing."""
    total = 0
    for process in family(stack):
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_full_info().pss)
    return total


@pytest.fixture
async def brief(tmp_path: Path, models: Path) -> AsyncIterator[Stack]:
    """A service whose engine goes when it had nothing to do for some seconds: long enough to be weighed before."""
    settings = {"transcriber": {"DESIFRE_MODELS_DIR": str(models), "DESIFRE_IDLE_AFTER": "6"}}
    async with Stack(tmp_path, settings=settings) as stack:
        yield stack


async def test_the_engine_comes_with_work_and_goes_with_its_memory(brief: Stack) -> None:
    """No engine before the first recording, one with the model loaded for it, none after; the memory is back."""
    async with aiohttp.ClientSession() as session:
        me = await Caller(session, brief.http_url).sign_up()
        said = speech.spoken("en")
        recording = media.encode(said.samples, "flac")
        assert engine(brief) is None
        before = memory(brief)
        pids = set()
        for model in ("base", "tiny.en"):
            answer = await transcribe(me, recording, model=model)
            assert speech.word_errors(said, answer["text"]) <= 0.15
            process = engine(brief)
            assert process is not None
            pids.add(process.pid)
            assert memory(brief) - before > 100 * MIB
            async with asyncio.timeout(60):
                while engine(brief) is not None:
                    await asyncio.sleep(0.1)
            # What the first job brings into the transcriber itself (buffers, connections) stays.
            assert memory(brief) - before < 60 * MIB
        assert len(pids) == 2


@pytest.mark.long
async def test_half_an_hour_in_bounded_memory(tmp_path: Path, models: Path) -> None:
    """Thirty minutes of speech are heard from end to end, and no process grows with them."""
    said = speech.talk(1800.0)
    settings = {"transcriber": {"DESIFRE_MODELS_DIR": str(models)}}
    async with Stack(tmp_path, settings=settings) as stack, aiohttp.ClientSession() as session:
        me = await Caller(session, stack.http_url).sign_up()
        await transcribe(me, media.encode(speech.spoken("en").samples, "flac"))
        ingest = psutil.Process(stack.process("ingest").pid)
        idle, warm = int(ingest.memory_full_info().pss), memory(stack)
        job = (await me("POST", "/jobs", data=form(media.encode(said.samples, "ogg-opus")))).json()["job_id"]
        most_of_ingest, most = idle, warm
        async with asyncio.timeout(1800):
            while (view := (await me("GET", f"/jobs/{job}", params={"wait": "1"})).json())["state"] != "completed":
                assert view["state"] in ("accepted", "preparing", "running"), view
                most_of_ingest = max(most_of_ingest, int(ingest.memory_full_info().pss))
                most = max(most, memory(stack))
        answer = (await me("GET", view["links"]["result"])).json()
    check(answer)
    assert speech.word_errors(said, answer["text"]) <= 0.15
    assert answer["duration"] == pytest.approx(said.seconds, abs=0.1)
    assert most_of_ingest - idle <= 64 * MIB
    # Each core has a batch of eight windows in hand, whose activations took 0.6 GiB when it was measured.
    assert most <= (256 + 768 * len(os.sched_getaffinity(0))) * MIB
