"""What every engine promises, on the digest engine and on Whisper with real weights, through the child process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from services.contracts.languages import LANGUAGES
from services.transcriber.engine.digest import digest_of
from services.transcriber.engine.process import EngineProcess
from services.transcriber.engine.protocol import (
    Cause,
    EngineDied,
    EngineFailed,
    EngineOverran,
    ModelAway,
    Task,
    Window,
)
from tests.engine_support import engine_of, windows
from tests.media import silence, speech

KINDS = [("digest", "base"), ("whisper", "tiny.en")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(kind))
async def engine(request: pytest.FixtureRequest, models: Path) -> AsyncIterator[EngineProcess]:
    async with engine_of(models, request.param[0], digest_speed=200.0) as engine:
        yield engine


@pytest.fixture
def task(request: pytest.FixtureRequest) -> Task:
    return Task(model=request.node.callspec.params["engine"][1], language="en", beam_size=1)


@pytest.fixture(scope="module")
def clips() -> list[Window]:
    """Four windows of a recording, from its tenth second on."""
    return windows(speech(12.0), 3.0, start=10.0)


async def test_results_belong_to_their_windows(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """There is one result for each window, in the order given and with its range, whatever the order."""
    shuffled = [clips[2], clips[0], clips[3], clips[1]]
    results = await engine.transcribe(shuffled, task)
    assert [(result.start, result.end) for result in results] == [(window.start, window.end) for window in shuffled]
    assert all(result.failed is None and result.language == "en" for result in results)


async def test_words_lie_in_their_window(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """Words and segments have times inside the window, in order, and probabilities in 0..1."""
    results = await engine.transcribe(clips, task)
    assert any(segment.words for result in results for segment in result.segments)
    for result in results:
        words = [word for segment in result.segments for word in segment.words]
        assert all(result.start <= word.start <= word.end <= result.end for word in words)
        assert all(0 <= word.probability <= 1 for word in words)
        assert all(one.end <= other.start for one, other in pairwise(words))
        assert all(segment.text == "".join(word.word for word in segment.words) for segment in result.segments)


async def test_batches_side_by_side_change_nothing(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """Batches in flight together give what the same batches give one after another."""
    alone = [await engine.transcribe([window], task) for window in clips]
    together = await asyncio.gather(*(engine.transcribe([window], task) for window in clips))
    assert list(together) == alone


async def test_without_word_timestamps_there_is_text_only(
    engine: EngineProcess, task: Task, clips: list[Window]
) -> None:
    """When no word times are asked for, segments have text and no words."""
    (result,) = await engine.transcribe(clips[:1], replace(task, word_timestamps=False))
    assert result.segments
    assert all(segment.text.strip() and not segment.words for segment in result.segments)


async def test_a_cancelled_request_harms_nobody(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """Cancelling the wait for a batch leaves the others and the process as they were."""
    dropped = asyncio.create_task(engine.transcribe(clips, task), name="dropped")
    kept = asyncio.create_task(engine.transcribe(clips[:1], task), name="kept")
    await asyncio.sleep(0)
    dropped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropped
    (result,) = await kept
    pid = engine.pid
    assert result.failed is None
    assert await engine.transcribe(clips[:1], task) == [result]
    assert engine.pid == pid


async def test_the_language_is_told(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """The language of an English-only model is English for certain, also when nobody names it."""
    assert await engine.detect_language(clips, task.model) == ("en", 1.0)
    (result,) = await engine.transcribe(clips[:1], replace(task, language=None))
    assert result.language == "en"


async def test_a_killed_engine_is_started_again(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """What was in flight when the process was killed fails as such; the next request is heard by a new process."""
    # More than can be heard before the kill, whatever stops us; the digest engine takes `hang` at its word.
    running = asyncio.create_task(engine.transcribe(clips * 10, replace(task, prompt="hang")), name="in flight")
    await asyncio.sleep(0)
    while engine.pid is None or not engine.advancing:
        await asyncio.sleep(0.005)
    pid = engine.pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EngineDied) as died:
        await running
    assert died.value.cause in (Cause.KILLED, Cause.OUT_OF_MEMORY)
    assert not died.value.innocent
    await engine.transcribe(clips[:1], task)
    assert engine.pid not in (None, pid)


async def test_a_batch_that_overruns_ends_the_process(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """A batch that takes more engine time than its budget fails with EngineOverran, and the engine goes on after it."""
    with pytest.raises(EngineOverran):
        await engine.transcribe(clips * 10, replace(task, prompt="hang"), budget=0.005)
    assert len(await engine.transcribe(clips[:1], task, budget=120)) == 1


async def test_progress_can_be_seen(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """While a batch is heard the engine says that it advances, and when it last did."""
    await engine.transcribe(clips[:1], task)
    before = engine.last_progress
    await engine.transcribe(clips, task)
    assert engine.last_progress > before
    assert not engine.advancing


async def test_an_unknown_model_is_refused(engine: EngineProcess, task: Task, clips: list[Window]) -> None:
    """A model without weights is refused before a process hears of it; so is a name that is a path."""
    for name in ("no-such-model", "../base", "/etc"):
        assert not engine.available(name)
        with pytest.raises(ModelAway):
            await engine.transcribe(clips[:1], Task(model=name))
    assert engine.available(task.model)


@pytest.mark.parametrize(("kind", "model"), KINDS)
async def test_an_idle_engine_goes(models: Path, kind: str, model: str, clips: list[Window]) -> None:
    """There is no process before the first request, and after a time without any it is gone with all its memory."""
    async with engine_of(models, kind, idle_after=0.2) as engine:
        assert engine.pid is None
        await engine.transcribe(clips[:1], Task(model=model, language="en"))
        pid = engine.pid
        assert pid is not None
        assert psutil.Process(pid).memory_info().rss > 0
        await engine.idle()
        assert engine.pid is None
        assert not psutil.pid_exists(pid)
        assert len(await engine.transcribe(clips[:1], Task(model=model, language="en"))) == 1


@pytest.fixture
async def digest(models: Path) -> AsyncIterator[EngineProcess]:
    async with engine_of(models, "digest") as engine:
        yield engine


async def test_the_digest_proves_what_was_heard(digest: EngineProcess, clips: list[Window]) -> None:
    """The digest engine's words name the samples of each window by position and sum."""
    results = await digest.transcribe(clips, Task(model="base"))
    assert [result.segments[0].text.strip() for result in results] == [digest_of(window) for window in clips]
    assert results[0].segments[0].text.startswith(" 160000-207999:")


async def test_a_crash_is_told_from_a_kill(digest: EngineProcess, clips: list[Window]) -> None:
    """An engine that aborts on a window fails the batch as crashed."""
    with pytest.raises(EngineDied) as died:
        await digest.transcribe(clips, Task(model="base", prompt=f"crash@{clips[2].first_sample}"))
    assert died.value.cause is Cause.CRASHED


async def test_the_innocent_are_told(digest: EngineProcess, clips: list[Window]) -> None:
    """When one batch overruns, batches that die with it are told that they were not the reason."""
    hanging = asyncio.create_task(
        digest.transcribe(clips[:1], Task(model="base", prompt="hang"), budget=60), name="innocent"
    )
    with pytest.raises(EngineOverran):
        await digest.transcribe(clips[1:2], Task(model="base", prompt="hang"), budget=0.2)
    with pytest.raises(EngineDied) as died:
        await hanging
    assert died.value.innocent
    assert died.value.cause is Cause.OVERRAN


async def test_failures_of_a_window_and_of_a_batch(digest: EngineProcess, clips: list[Window]) -> None:
    """A failed window has no words and says so; a refused batch fails alone, without the process."""
    failed, heard = await digest.transcribe(clips[:2], Task(model="base", prompt=f"fail@{clips[0].first_sample}"))
    assert (failed.failed, failed.segments, heard.failed) == ("asked", (), None)
    pid = digest.pid
    with pytest.raises(EngineFailed):
        await digest.transcribe(clips[:1], Task(model="base", prompt="refuse"))
    assert digest.pid == pid


async def test_urgent_batches_go_first(models: Path) -> None:
    """Of the batches that wait for a worker, an urgent one is heard before those that came earlier."""
    order: list[str] = []
    moments = windows(silence(60.0), 0.1)
    async with engine_of(models, "digest", workers=1, digest_speed=1.0) as engine:

        async def batch(name: str, urgent: bool) -> None:
            await engine.transcribe(moments[:1], Task(model="base"), urgent=urgent)
            order.append(name)

        running = asyncio.create_task(engine.transcribe(moments, Task(model="base")), name="running")
        while not engine.advancing:
            await asyncio.sleep(0.001)
        batches = [("second", False), ("third", False), ("urgent", True)]
        waiting = [asyncio.create_task(batch(name, urgent), name=name) for name, urgent in batches]
        while engine._child is None or len(engine._child.requests) < 1 + len(waiting):
            await asyncio.sleep(0.001)
        running.cancel()  # the process hears of it after it has heard of those that wait
        await asyncio.gather(*waiting)
    assert order == ["urgent", "second", "third"]


async def test_no_engine_survives_its_parent(models: Path) -> None:
    """When the transcriber is killed without a chance to clean up, its engine process ends too."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from services.transcriber.engine.protocol import Task, Window\n"
        "from tests.engine_support import engine_of\n"
        "async def main():\n"
        "    async with engine_of(Path(sys.argv[1]), 'digest') as engine:\n"
        "        await engine.transcribe([Window(bytes(32000), 0.0)], Task(model='base'))\n"
        "        print(engine.pid, flush=True)\n"
        "        await engine.transcribe([Window(bytes(32000), 0.0)], Task(model='base', prompt='hang'))\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(models), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    assert await asyncio.to_thread(psutil.wait_procs, [child], 60) == ([child], [])


async def test_base_detects_transcribes_and_translates(models: Path, clips: list[Window]) -> None:
    """The multilingual `base` detects a language per batch, hears words in it, and hears nothing in silence."""
    async with engine_of(models) as engine:
        language, probability = await engine.detect_language(clips[:1], "base")
        assert language in LANGUAGES
        assert 0 < probability <= 1
        heard, nothing = await engine.transcribe([clips[0], *windows(silence(3.0), 3.0)], Task(model="base"))
        assert heard.language in LANGUAGES
        assert (nothing.segments, nothing.suspect) == ((), False)
        (translated,) = await engine.transcribe(
            clips[:1], Task(model="base", language="tr", task="translate", prompt="A talk.", hotwords="desifre")
        )
        assert translated.failed is None
        (info,) = [model for model in engine.models() if model.loaded]
        assert (info.name, info.multilingual, info.source) == ("base", True, "folder")
        assert info.bytes is not None
        assert info.bytes > 50_000_000
