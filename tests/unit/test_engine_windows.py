"""Windows and batches: every sample of speech is heard once, and the rules are pure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.transcriber.engine.batcher import batches_of
from services.transcriber.engine.protocol import LONGEST_WINDOW, Window
from services.transcriber.engine.windows import windows_of
from tests.media import noise, speech, talk

RATE = 16_000


@st.composite
def recordings(draw: st.DrawFn) -> tuple[bytes, float, list[tuple[float, float]]]:
    """Noise with stretches of speech in it, some beyond its ends, as seconds of the recording."""
    start = draw(st.sampled_from([0.0, 12.5, 3600.0]))
    at, speech = draw(st.floats(-1, 3)), []
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.floats(0.05, 40))
        speech.append((start + at, start + at + length))
        at += length + draw(st.floats(0, 4))
    seconds = max(0.0, at + draw(st.floats(-2, 3)))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    loudness = np.repeat(random.uniform(10, 3000, int(seconds * 4) + 1), RATE // 4)[: int(seconds * RATE)]
    return (random.uniform(-1, 1, len(loudness)) * loudness).astype("<i2").tobytes(), start, speech


@given(recordings(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_sample_of_speech_is_in_one_window(
    recording: tuple[bytes, float, list[tuple[float, float]]], vad: bool
) -> None:
    """Whatever is said and however long, windows are in order, never overlap, hold the samples, and miss no speech."""
    pcm, start, speech = recording
    samples = np.frombuffer(pcm, dtype="<i2")
    heard = np.zeros(len(samples), dtype=int)
    last = 0
    for window in windows_of(pcm, start, speech, vad):
        first = round((window.start - start) * RATE)
        count = len(window.pcm) // 2
        assert last <= first
        assert 0 < count <= LONGEST_WINDOW * RATE
        assert window.pcm == samples[first : first + count].tobytes()
        heard[first : first + count] += 1
        last = first + count
    assert heard.max(initial=0) <= 1
    for begin, end in speech if vad else [(start, start + len(samples) / RATE)]:
        low, high = (min(max(0, round((edge - start) * RATE)), len(samples)) for edge in (begin, end))
        assert heard[low:high].all()


@given(recordings())
@settings(max_examples=10, deadline=None)
def test_windows_are_a_pure_function(recording: tuple[bytes, float, list[tuple[float, float]]]) -> None:
    """The same recording is always cut at the same places."""
    assert windows_of(*recording) == windows_of(*recording)


def test_pauses_are_where_windows_end() -> None:
    """Phrases with pauses between them make windows of at most 15 s that begin and end in pauses."""
    pcm = noise(60.0).tobytes()
    phrases = [(at, at + 4.0) for at in np.arange(1.0, 56.0, 4.5).tolist()]
    windows = windows_of(pcm, 0.0, phrases)
    assert max(window.seconds for window in windows) <= 15.0
    for window in windows:
        assert not any(begin < edge < end for begin, end in phrases for edge in (window.start, window.end))


def test_a_long_silence_is_not_heard() -> None:
    """Speech on both sides of a long silence makes two windows with a little of the silence, not one."""
    windows = windows_of(noise(12.0).tobytes(), 100.0, [(101.0, 102.0), (110.0, 111.0)])
    edges = [edge for window in windows for edge in (window.start, window.end)]
    assert edges == pytest.approx([100.8, 102.2, 109.8, 111.2])


def test_a_stretch_without_pauses_is_cut_at_its_dip() -> None:
    """Twenty seconds of speech that no pause divides are cut where they are quietest."""
    samples = noise(20.0, level=0.3)
    samples[9 * RATE : 9 * RATE + 3200] //= 100
    windows = windows_of(samples.tobytes(), 0.0, [(0.0, 20.0)])
    assert len(windows) == 2
    assert 9.0 <= windows[0].end <= 9.2
    assert windows[1].start == windows[0].end


def test_a_stretch_without_a_dip_stays_whole_up_to_30_s() -> None:
    """Even noise has no place to be cut at: 25 s of it are one window, 70 s are several of at most 30 s."""
    assert [window.seconds for window in windows_of(noise(25.0).tobytes(), 0.0, [(0.0, 25.0)])] == [25.0]
    long = windows_of(noise(70.0).tobytes(), 0.0, [(0.0, 70.0)])
    assert max(window.seconds for window in long) <= 30.0
    assert sum(window.seconds for window in long) == 70.0


def test_without_vad_everything_is_heard() -> None:
    """With `vad=False` the windows together are the recording, also where nobody was found to speak."""
    pcm = talk(47.0).tobytes()
    assert b"".join(window.pcm for window in windows_of(pcm, 0.0, [], vad=False)) == pcm


def test_nothing_gives_nothing() -> None:
    """No samples, or no speech in them, give no windows."""
    assert windows_of(b"", 0.0, [(0.0, 1.0)]) == []
    assert windows_of(b"", 0.0, [], vad=False) == []
    assert windows_of(speech(3.0).tobytes(), 0.0, []) == []


lengths = st.lists(st.integers(1, 480), max_size=60)


def _windows(tenths: list[int]) -> list[Window]:
    return [Window(bytes(3200 * length), sum(tenths[:i]) / 10) for i, length in enumerate(tenths)]


@given(lengths, st.booleans())
def test_every_window_is_in_one_batch(tenths: list[int], early: bool) -> None:
    """Batches share the windows out without rest, within the limits, the later ones longest first."""
    windows = _windows(tenths)
    batches = batches_of(windows, early=early, most_windows=6, most_seconds=60.0)
    assert sorted(index for batch in batches for index in batch) == list(range(len(windows)))
    for batch in batches:
        seconds = [windows[index].seconds for index in batch]
        assert 0 < len(batch) <= 6
        assert len(batch) == 1 or early or max(seconds) * len(seconds) <= 60.0 + 1e-6
    ordered = [windows[index].seconds for batch in batches[early:] for index in batch]
    assert ordered == sorted(ordered, reverse=True)


def test_early_words_come_from_the_first_windows() -> None:
    """With `early` the first batch is small and holds the earliest windows."""
    windows = _windows([100, 150, 50, 120, 80, 90, 150, 20, 30, 150, 60, 70])
    assert batches_of(windows, early=True)[0] == [0, 1]
    assert len(batches_of(windows)[0]) == 6


def test_batches_are_evenly_large() -> None:
    """Nine windows are five and four, not eight and a single one that is heard alone."""
    assert [len(batch) for batch in batches_of(_windows([100] * 9))] == [5, 4]
