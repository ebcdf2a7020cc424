"""An engine that dies in mid-sentence costs a pause and not a sample: what it heard is compared with what was sent."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import nats
import numpy as np
import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.contracts.live import Lease
from services.transcriber.live.holder import this_process
from services.transcriber.prepare.onset import HEAD, PREROLL
from tests.doors.caller import Caller
from tests.live.listening import (
    Cells,
    Listener,
    check,
    check_job,
    digest_stack,
    engine_child,
    heard,
    holder,
    listening,
    loud,
    somebody,
    told,
)
from tests.live.speaker import PATIENCE, decoded, recorded, speaker
from tests.media import RATE, Samples, silence

PACE = 3.0
"""Times real time at which is spoken: an utterance takes a second or two, a takeover does not get shorter."""
SOUND = somebody(30)


@pytest.fixture(scope="module")
async def digest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A service of one's own: its transcriber is killed."""
    async with digest_stack(tmp_path_factory.mktemp("takeover")) as stack:
        yield stack


@pytest.fixture
async def me(digest: Stack, session: aiohttp.ClientSession) -> Caller:
    """A fresh tenant with a key."""
    return await Caller(session, digest.http_url).sign_up()


async def unfaulted(stack: Stack, me: Caller, samples: Samples) -> Cells:
    """What is heard when nothing happens, which is nearly everything in which somebody speaks."""
    it = await heard(stack, me, samples, 100, prompt="cells")
    like = check(it.of("final"), samples, {})
    assert len(like.keys() & loud(samples)) >= 0.97 * len(loud(samples))
    return like


async def test_a_finalize_is_answered_by_whoever_comes_next(digest: Stack, me: Caller) -> None:
    """Each once: what an engine has answered before its end is not asked again, and what it has not is answered."""
    async with listening(digest, me, prompt="cells", endpointing_ms=5000) as it:
        await it.speak(SOUND[: 6 * RATE])
        await it.say("finalize")
        while not (await it.until("final"))["from_finalize"]:
            pass
        await it.say("finalize")
        await it.until("utterance_end")
        digest.process("transcriber").kill()
        await it.say("finalize")
        await it.until("utterance_end")
        await it.speak(SOUND[6 * RATE : 8 * RATE])
        await it.close()
    answers = [one["type"] for one in it.told if one.get("from_finalize")]
    assert answers == ["final", "utterance_end", "utterance_end"]
    assert len(it.of("claimed")) >= 2


async def faulted(stack: Stack, me: Caller, samples: Samples, faults: list[str], chance: random.Random) -> Listener:
    """A session in which one fault after the other happens while somebody speaks, to the first pause after the last."""
    over = asyncio.Event()
    async with listening(stack, me, prompt="cells") as it:
        talking = asyncio.create_task(it.talk(samples, PACE, over), name="talk")
        for fault in faults:
            await it.until("interim")
            for _ in range(chance.randrange(3)):
                await it.until("interim")
            before = len(it.of("claimed"))
            await hurt(stack, fault)
            while fault in ("kill", "stop") and len(it.of("claimed")) == before:
                await it.until("claimed")
        over.set()
        await it.until("summary")
        await talking
    return it


async def hurt(stack: Stack, fault: str) -> None:
    """Do it."""
    transcriber = stack.process("transcriber")
    if fault == "child":
        async with asyncio.timeout(PATIENCE):
            while (child := engine_child(stack)) is None:  # another transcriber may just have begun
                await asyncio.sleep(0.01)
        child.kill()
    else:
        transcriber.kill(signal.SIGKILL if fault == "kill" else signal.SIGTERM)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(["child", "kill"], id="killed"),
        pytest.param(["stop", "child", "kill", "stop", "child", "kill"], id="everything", marks=pytest.mark.long),
    ],
)
async def test_every_sample_is_heard_once(digest: Stack, me: Caller, faults: list[str]) -> None:
    """Engine process and transcriber end in mid-sentence: all that was said is in the finals, once, and in order."""
    sound = somebody(90.0 * len(faults))  # more than enough: when everything has happened the speaker is done
    it = await faulted(digest, me, sound, faults, random.Random(1))
    said = sound[: it.sent]
    assert len(said) < len(sound)
    # At least: an engine that stood still past its lease claims the session once more.
    assert len(it.of("claimed")) >= 1 + len([fault for fault in faults if fault != "child"])
    check(it.of("final"), said, await unfaulted(digest, me, said))
    await check_job(me, it, said)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("webm", "libopus"),
        pytest.param("ogg", "libopus", marks=pytest.mark.long),
        pytest.param("mp4", "aac", marks=pytest.mark.long),
    ],
)
async def test_what_a_browser_records_is_heard_on(digest: Stack, me: Caller, container: str, codec: str) -> None:
    """Who takes a browser's session over hears the very samples that come next, and tells each of them once."""
    sound = recorded(somebody(60), container, codec)
    samples = decoded(sound)
    first = len(sound) * 54 // (len(samples) // RATE)
    async with listening(digest, me, encoding="container", prompt="cells") as it:
        await it.send(sound[:first])
        while (await it.until("final"))["position"] < 48:
            pass
        digest.process("transcriber").kill()
        assert (await it.until("claimed"))["position"] > HEAD + PREROLL
        await it.send(sound[first:])
        await it.close()
    found = check(it.of("final"), samples, {})
    assert len(found.keys() & loud(samples)) >= 0.97 * len(loud(samples))
    await check_job(me, it, samples)


async def test_a_sleeper_changes_nothing(digest: Stack, me: Caller) -> None:
    """An engine that stands still past its lease and wakes adds no word to what another has gone on with."""
    sound, over = somebody(180), asyncio.Event()
    other = await digest.add("transcriber")
    try:
        async with listening(digest, me, prompt="cells") as it:
            talking = asyncio.create_task(it.talk(sound, PACE, over), name="talk")
            await it.until("interim")
            sleeper = await holder(digest, it.of("ready")[0]["session_id"], other, digest.process("transcriber"))
            before = len(it.of("claimed"))
            sleeper.kill(signal.SIGSTOP)
            try:
                while len(it.of("claimed")) == before:
                    await it.until("claimed")
                await it.until("interim")
            finally:
                sleeper.kill(signal.SIGCONT)
            over.set()
            await it.until("summary")
            await talking
        said = sound[: it.sent]
        assert len(said) < len(sound)
        check(it.of("final"), said, await unfaulted(digest, me, said))
        await check_job(me, it, said)  # whoever ended the session draws its waveform
    finally:
        await other.stop()


async def lag(it: Listener, *, by_engine: bool) -> dict[str, Any]:
    """The next lag that is told by an engine, or by the door: what the door says of itself has no cursor."""
    while ("cursor" in (found := await it.until("lag"))) != by_engine:
        pass
    return found


async def test_a_session_that_nobody_hears_is_told_so(digest: Stack, me: Caller) -> None:
    """Where no engine is there to say how late it is the door says it, more each time, until words come again."""
    transcriber = digest.process("transcriber")
    async with listening(digest, me, prompt="cells") as it:
        await it.speak(SOUND[: len(SOUND) // 2])
        await it.until("final")
        transcriber.kill(signal.SIGSTOP)
        try:
            while (first := await lag(it, by_engine=False))["seconds"] < 4.0:
                pass
            assert (await lag(it, by_engine=False))["seconds"] > first["seconds"]
        finally:
            transcriber.kill(signal.SIGCONT)
        await it.speak(SOUND[len(SOUND) // 2 :])
        await it.close()
    assert it.of("lag")[-1]["seconds"] < 1.0


async def test_a_dead_holder_keeps_nothing(digest: Stack, me: Caller) -> None:
    """The lease of a process that is dead is taken by another on its machine, however long it still holds."""
    here, pid, began = this_process().rsplit("/", 2)
    transcriber = digest.process("transcriber")
    transcriber.kill(signal.SIGSTOP)
    try:
        async with listening(digest, me, prompt="cells") as it:
            admin = await nats.connect(digest.nats_url, user="admin", password=digest.nats_password())
            lease = Lease(engine="dead", since=0.0, process=f"{here}/{pid}/{began}0")
            subject = subjects.kv(subjects.SESSIONS, it.of("ready")[0]["session_id"])
            await admin.jetstream(timeout=PATIENCE).publish(subject, lease.encode(), headers={"Nats-TTL": "600s"})
            await admin.close()
            transcriber.kill(signal.SIGCONT)
            await it.until("claimed")
            await it.close()
    finally:
        transcriber.kill(signal.SIGCONT)


async def test_what_an_engine_could_not_hear_is_kept(digest: Stack, me: Caller) -> None:
    """A session that fails by our fault without a word has all that was taken of it, and it can be done again."""
    async with listening(digest, me, prompt="refuse") as it:
        talking = asyncio.create_task(it.talk(np.tile(SOUND, 4), PACE), name="talk")
        summary = await it.until("summary")
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert (summary["state"], summary["error"]["code"]) == ("failed", "engine_failed")
    async with speaker(me) as again:
        await again.say("resume", session_id=summary["session_id"])
        taken = (await again.until("ready"))["received"] / 2 / RATE
    assert 0 < taken < 4 * len(SOUND) / RATE
    again = await me("POST", "/jobs", json={"source": summary["job_id"]})
    while (ended := (await me("GET", f"/jobs/{again.json()['job_id']}", params={"wait": "5"})).json())["progress"] < 1:
        assert ended["state"] not in ("failed", "cancelled")
    assert ended["duration"] == pytest.approx(taken, abs=0.01)


@pytest.mark.long
async def test_silence_is_not_heard_again(digest: Stack, me: Caller) -> None:
    """An engine that takes over after a long silence begins at its end, and not at the last words."""
    sound = np.concatenate([silence(70.0), SOUND])
    async with listening(digest, me, prompt="cells") as it:
        await it.speak(sound[: 70 * RATE])
        while (await it.until("quiet"))["position"] < 60:
            pass
        digest.process("transcriber").kill()
        assert (await it.until("claimed"))["position"] > 55
        await it.speak(sound[70 * RATE :])
        await it.close()
    like = dict(told(it.of("final")))
    check(it.of("final"), sound, like)
    assert len(like) >= 0.9 * len(loud(sound))
    await check_job(me, it, sound)


@pytest.mark.long
async def test_the_lag_is_true(digest: Stack, me: Caller) -> None:
    """A client that has sent two minutes while nobody listened is told of them, and not of what is decoded so far.

    And when it is over, not before, and without having to speak again.
    """
    sound = np.concatenate([somebody(105), silence(5.0)])
    async with listening(digest, me, prompt="cells") as it:
        await it.until("claimed")
        transcriber = digest.process("transcriber")
        transcriber.kill(signal.SIGSTOP)
        try:
            await it.speak(sound)
            while (await it.until("received"))["received"] < 2 * len(sound):
                pass
        finally:
            transcriber.kill(signal.SIGCONT)
        now = await lag(it, by_engine=True)
        assert now["seconds"] > 75
        while now["seconds"] >= 1.0:
            now = await lag(it, by_engine=True)
        assert now["position"] > len(sound) / RATE - 1.0
        await it.close()


@pytest.mark.long
async def test_words_outlive_the_bus(digest: Stack, me: Caller) -> None:
    """When every stream of the bus is deleted, a running session becomes a job with the finals that were told."""
    async with listening(digest, me, prompt="cells") as it:
        await it.speak(SOUND)
        while not any(final["position"] > len(SOUND) / RATE - 8 for final in it.of("final")):
            assert await it.next()
        admin = await nats.connect(digest.nats_url, user="admin", password=digest.nats_password())
        for stream in subjects.STREAMS:
            await admin.jetstream(timeout=PATIENCE).delete_stream(stream)
        await admin.close()
        name = it.of("ready")[0]["job_id"]
        headers = {"x-api-key": me.key or ""}
        async with asyncio.timeout(PATIENCE):
            while True:  # while there is no bus there are no answers
                async with me.session.get(f"{me.base}/jobs/{name}", headers=headers) as answer:
                    if (job := await answer.json()).get("state") in ("completed", "failed"):
                        break
                await asyncio.sleep(0.2)
    assert job["state"] == "completed"
    async with me.session.get(f"{me.base}/jobs/{job['job_id']}/result", headers=headers) as answer:
        result = await answer.json()
    assert result["text"].startswith("".join(final["text"] for final in it.of("final")).strip())
    assert result["coverage"]["truncated"]
