"""What is made final before its time, and when an utterance is over."""

import asyncio
import itertools

import numpy as np
import pytest

from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE, Speaker, check_finals, recorded, speaker
from tests.media import RATE, silence
from tests.speech import amid_silence, spoken

SAID = spoken("en")
SOUND = amid_silence(SAID, before=0.5, after=1.0)
PIECE = 640
"""Bytes of 20 ms."""


async def test_finalize_flushes(me: Caller) -> None:
    """`finalize` in the middle of a sentence makes final what was said, and the session goes on."""
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=3000)
        await it.until("ready")
        half = len(SAID.samples) // 2
        await it.speak(SAID.samples[:half])
        await it.say("finalize")
        while not (await it.until("final"))["from_finalize"]:
            pass
        await it.speak(SAID.samples[half:])
        await it.close()
    check_finals(it.of("final"), len(SAID.samples) / RATE)


async def speak_on(it: Speaker, sound: bytes, piece: int) -> None:
    """Send a piece every 20 ms, for as long as there is something to send."""
    for at in range(0, len(sound), piece):
        await it.ws.send_bytes(sound[at : at + piece])
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("container", [None, "webm"])
async def test_finalize_does_not_wait_for_a_pause(me: Caller, container: str | None) -> None:
    """Whoever goes on speaking has the answer meanwhile, as from a microphone that is never silent."""
    talk = np.concatenate(list(itertools.repeat(SAID.samples, 30)))
    sound = recorded(talk, container) if container else talk.astype("<i2").tobytes()
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=5000, encoding="container" if container else "pcm_s16le")
        await it.until("ready")
        piece = round(PIECE * len(sound) / (2 * len(talk)))
        speaking = asyncio.create_task(speak_on(it, sound, piece), name="speak on")
        try:
            while not (await it.until("interim"))["text"]:
                pass
            await it.say("finalize")
            async with asyncio.timeout(PATIENCE):
                while not (await it.until("final"))["from_finalize"]:
                    pass
            assert not speaking.done()
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        await it.close()  # or it would keep its place for a minute


async def test_each_finalize_is_answered_for_its_place(me: Caller) -> None:
    """However far behind an engine is: what was said after a `finalize` is not cut where it happens to stand."""
    talk = np.concatenate([SAID.samples] * 4)
    places = (4.0, 9.0)
    assert places[-1] + 3 < len(talk) / RATE
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=5000)
        await it.until("ready")
        for begin, end in itertools.pairwise((0.0, *places)):
            await it.speak(talk[round(begin * RATE) : round(end * RATE)])
            await it.say("finalize")
        await it.speak(talk[round(places[-1] * RATE) :])
        await it.close()
    answers = [one["position"] for one in it.of("final") if one["from_finalize"]]
    assert len(answers) == len(places)
    for answer, place in zip(answers, places, strict=True):
        assert abs(answer - place) <= 0.064
    check_finals(it.of("final"), len(talk) / RATE)


@pytest.mark.parametrize("container", [None, "webm"])
async def test_no_finalize_is_forgotten(me: Caller, container: str | None) -> None:
    """Also of several at once, and right before the end: one has the words, the others hear that nothing is left."""
    half = SAID.samples[: len(SAID.samples) // 2]
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=5000, encoding="container" if container else "pcm_s16le")
        await it.until("ready")
        await it.send(recorded(half, container) if container else half.astype("<i2").tobytes())
        for _ in range(3):
            await it.say("finalize")
        await it.close()
    answers = [one["type"] for one in it.told if one.get("from_finalize")]
    assert answers == ["final", "utterance_end", "utterance_end"]


async def test_an_utterance_is_over_when_nobody_has_gone_on_for_long(me: Caller) -> None:
    """With `utterance_end_ms` a pause makes words final, and ends the utterance only when it lasts for so long."""
    async with speaker(me) as it:
        await it.say("start", endpointing_ms=300, utterance_end_ms=3000)
        await it.until("ready")
        await it.speak(np.concatenate([SOUND, SOUND, silence(4.0), SOUND]))
        await it.close()
    kinds = [one["type"] for one in it.told if one["type"] in ("final", "utterance_end")]
    assert len([one for one in it.of("final") if one["speech_final"]]) >= 3
    first, last = it.of("utterance_end")
    assert first["position"] - first["last_word_end"] >= 3.0
    assert kinds.index("utterance_end") >= 2
    assert kinds[-1] == "utterance_end"
    assert last["position"] > first["position"] + 1.0
