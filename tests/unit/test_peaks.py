"""The waveform: the loudest sample of each twentieth of a second, however the samples come in."""

from array import array

import pytest

from services.ingest.http.peaks import coarser
from services.transcriber.prepare.peaks import STEP, Peaks


@pytest.mark.parametrize("size", [2, 1000, 2 * STEP, 159_744])
def test_a_waveform_is_the_same_however_the_samples_come(size: int) -> None:
    """Full scale is 255 in both directions, silence 0; the last value may stand for less than a twentieth."""
    samples = array("h", [0] * STEP + [-32768] + [0] * (STEP - 1) + [128] * STEP + [32767] * 10)
    pcm, peaks = samples.tobytes(), Peaks()
    for at in range(0, len(pcm), size):
        peaks.feed(pcm[at : at + size])
    assert list(peaks.close()) == [0, 255, 1, 255]


def test_no_sample_has_no_waveform() -> None:
    """Nothing in, nothing out."""
    assert Peaks().close() == b""


@pytest.mark.parametrize("points", [1, 3, 7, 100, 1000])
def test_a_coarser_waveform_loses_no_peak(points: int) -> None:
    """At most so many values as were asked for, and the highest of all is among them."""
    data = bytes([3, 9, 1, 250] + [7] * 96)
    found = list(coarser(data, points))
    assert len(found) <= points
    assert max(found) == 250
