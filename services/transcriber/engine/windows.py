"""Cuts a stretch of audio into the windows that the model hears: pure functions of samples and times.

Whisper was trained on 30 s windows, but its encoder costs more than linearly and CTranslate2 takes any length,
so windows of about 15 s are a third cheaper at the same word error rate (measured; docs/engine.md).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from services.contracts.parts import SAMPLE_RATE as RATE
from services.transcriber.engine.protocol import LONGEST_WINDOW, Window

PADDING = 0.2
"""Seconds of the recording kept before the first and after the last speech of a window, where they are free."""
LULL = 2.0
"""Seconds of silence that always end a window: it would be encoded for nothing, and silence invites invention."""
_FRAME = RATE // 50
_SMOOTH = 5
_DIP = 0.1
"""A dip is a tenth of a second whose energy is 10 dB under the stretch's median: a stop or a breath, not a vowel."""

Span = tuple[int, int]


def windows_of(
    pcm: bytes,
    start: float,
    speech: Sequence[tuple[float, float]],
    vad: bool = True,
    longest: float = 15.0,
) -> list[Window]:
    """Cut `pcm` (s16le, 16 kHz, mono; its first sample is at `start` seconds of the recording) into windows.

    `speech` are the stretches of speech in absolute seconds, in order; with `vad=False` everything counts as speech.
    Every sample of speech is in exactly one window; windows are in order, never overlap, last at most `longest`
    seconds, and up to 30 s only where a stretch has neither a pause nor a dip in loudness to be cut at.
    """
    samples = np.frombuffer(pcm, dtype="<i2", count=len(pcm) // 2)
    room = int((longest - 2 * PADDING) * RATE)
    whole = [(0, len(samples))] if len(samples) else []
    stretches = _in_samples(speech, start, len(samples)) if vad else whole
    pieces = [piece for stretch in stretches for piece in _split(samples, stretch, room)]
    return [
        Window(pcm=samples[a:b].tobytes(), start=start + a / RATE)
        for a, b in _pad(list(_pack(pieces, room)), len(samples))
    ]


def _in_samples(speech: Sequence[tuple[float, float]], start: float, count: int) -> list[Span]:
    """The stretches as sample ranges inside the audio, without overlaps and empty ones."""
    spans: list[Span] = []
    for begin, end in speech:
        a = max(round((begin - start) * RATE), spans[-1][1] if spans else 0, 0)
        b = min(round((end - start) * RATE), count)
        if a < b:
            spans.append((a, b))
    return spans


def _split(samples: npt.NDArray[np.int16], stretch: Span, room: int) -> Iterator[Span]:
    """Cut a stretch that is too long at its quietest points."""
    a, b = stretch
    must = int((LONGEST_WINDOW - 2 * PADDING) * RATE)
    while b - a > room:
        energy = _energy(samples[a:b])
        cut = _quietest(energy, room // 2, room)
        if energy[cut] > _DIP * float(np.median(energy)):
            if b - a <= must:
                break
            cut = _quietest(energy, room // 2, must)
        yield a, a + cut * _FRAME
        a += cut * _FRAME
    yield a, b


def _energy(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Mean square of each 20 ms, smoothed over a tenth of a second."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float64)
    return np.convolve((frames**2).mean(axis=1), np.ones(_SMOOTH) / _SMOOTH, mode="same")


def _quietest(energy: npt.NDArray[np.float64], first: int, last: int) -> int:
    """Index of the quietest frame between two sample positions."""
    low, high = first // _FRAME, min(last // _FRAME, len(energy))
    return low + int(np.argmin(energy[low:high]))


def _pack(pieces: Sequence[Span], room: int) -> Iterator[Span]:
    """Join neighbouring pieces up to `room` samples, and close each window at the widest pause of its second half.

    Closing at a wide pause rather than as late as possible keeps sentences together.
    """
    first = 0
    while first < len(pieces):
        a = pieces[first][0]
        last, widest = first, -1
        for i in range(first, len(pieces)):
            if pieces[i][1] - a > room and i > first:
                break
            if i + 1 == len(pieces):
                last = i
                break
            pause = pieces[i + 1][0] - pieces[i][1]
            if pause >= LULL * RATE:
                last = i
                break
            if pieces[i][1] - a < room // 2:
                last = i
            elif pause >= widest:
                last, widest = i, pause
        yield a, pieces[last][1]
        first = last + 1


def _pad(spans: Sequence[Span], count: int) -> Iterator[Span]:
    """Widen each span by the padding, by at most half of the silence between it and its neighbour."""
    padding = int(PADDING * RATE)
    for i, (a, b) in enumerate(spans):
        before = (a - spans[i - 1][1]) // 2 if i else a
        after = (spans[i + 1][0] - b) // 2 if i + 1 < len(spans) else count - b
        yield a - min(padding, before), b + min(padding, after)
