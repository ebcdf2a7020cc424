"""Recordings in which nobody speaks: no words, and a job that ends well."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import media, speech
from tests.doors.caller import Caller
from tests.media import RATE, Samples
from tests.pipeline.answers import transcribe

SECONDS = 10.0


def pink(seconds: float) -> Samples:
    """Noise whose power falls with the frequency, as that of rooms and fans does."""
    count = round(seconds * RATE)
    random = np.random.default_rng(3)
    frequencies = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 1.0)
    parts = random.normal(size=(2, frequencies.size))
    wave = np.fft.irfft((parts[0] + 1j * parts[1]) / np.sqrt(frequencies), count)
    return np.round(0.3 * 32767 * wave / np.abs(wave).max()).astype(np.int16)


def music(seconds: float) -> Samples:
    """Chords, two a second, plucked: each note with three overtones that fade, and the noise of the attack."""
    chords = ((262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294))
    at = np.arange(RATE // 2) / RATE
    random = np.random.default_rng(3)

    def beat(notes: tuple[int, ...]) -> NDArray[np.float64]:
        overtones = (np.sin(2 * np.pi * note * k * at) / k for note in notes for k in (1, 2, 3, 4))
        pluck: NDArray[np.float64] = sum(overtones, start=np.zeros(at.size)) * np.exp(-4 * at)
        return pluck + 1.5 * random.normal(size=at.size) * np.exp(-40 * at)

    beats = [beat(chords[n // 4 % 4]) for n in range(round(seconds * 2))]
    wave = np.concatenate(beats)
    return np.round(0.5 * 32767 * wave / np.abs(wave).max()).astype(np.int16)


def clicks(seconds: float) -> Samples:
    """A click every half second."""
    wave = media.silence(seconds)
    wave[:: RATE // 2] = 20_000
    return wave


NOBODY = {
    "silence": media.silence(SECONDS),
    "dither": media.noise(SECONDS, level=1e-4),
    "white noise": media.noise(SECONDS),
    "pink noise": pink(SECONDS),
    "a tone": media.tone(SECONDS),
    "music": music(SECONDS),
    "clicks": clicks(SECONDS),
}


@pytest.mark.parametrize("signal", NOBODY)
async def test_where_nobody_speaks_there_are_no_words(me: Caller, signal: str) -> None:
    """Silence, noise, tones and music give a finished job without words, all of it accounted as no speech."""
    answer = await transcribe(me, media.encode(NOBODY[signal], "flac"))
    assert (answer["text"], answer["words"], answer["segments"]) == ("", [], [])
    assert (answer["language"], answer["language_probability"]) == (None, None)
    assert answer["duration"] == pytest.approx(SECONDS, abs=0.01)
    assert answer["coverage"]["non_speech"]["ranges"] == [[0.0, answer["duration"]]]
    view = (await me("GET", f"/jobs/{answer['job_id']}")).json()
    assert (view["state"], view["progress"], view["failure"]) == ("completed", 1.0, None)


async def test_an_empty_transcript_in_every_format(me: Caller) -> None:
    """A transcript without words can be read in every format, and is a well-formed nothing."""
    job = (await transcribe(me, media.encode(NOBODY["silence"], "flac")))["job_id"]
    empty = {"text": "\n", "srt": "", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n"}
    for name, nothing in empty.items():
        assert (await me("GET", f"/jobs/{job}/result", params={"format": name})).body.decode() == nothing
    verbose = (await me("GET", f"/jobs/{job}/result", params={"format": "verbose_json"})).json()
    assert (verbose["text"], verbose["words"], verbose["segments"], verbose["language"]) == ("", [], [], None)


async def test_a_language_asked_for_stands_also_without_words(me: Caller) -> None:
    """What was asked for is told, though nobody spoke it."""
    answer = await transcribe(me, media.encode(NOBODY["dither"], "flac"), language="tr")
    assert (answer["language"], answer["text"]) == ("tr", "")


async def test_silence_is_not_filled_with_words_though_everything_is_heard(me: Caller) -> None:
    """With `vad=false` the engine hears silence too, counts it as transcribed, and says nothing."""
    answer = await transcribe(me, media.encode(NOBODY["silence"], "flac"), vad="false")
    assert (answer["text"], answer["words"]) == ("", [])
    assert answer["coverage"]["transcribed"] == answer["duration"]


async def test_noise_around_speech_adds_nothing(me: Caller) -> None:
    """Music before it and noise after it leave the words of a sentence alone."""
    said = speech.sample("en", "quick_brown_fox")
    samples = np.concatenate([music(5.0), media.silence(0.5), said.samples, media.silence(0.5), pink(5.0)])
    answer = await transcribe(me, media.encode(samples, "flac"))
    assert speech.word_errors(said, answer["text"]) <= 0.15, answer["text"]
    assert answer["coverage"]["non_speech"]["seconds"] > 7
