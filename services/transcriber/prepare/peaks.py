"""The waveform of a recording, taken down while it passes."""

import numpy as np

from services.contracts.parts import PEAKS_PER_SECOND, SAMPLE_RATE

STEP = SAMPLE_RATE // PEAKS_PER_SECOND
"""Samples that one value stands for."""


def louder(one: bytes, other: bytes) -> bytes:
    """Of two channels' samples (s16le) at the same moments, at each the louder one."""
    a, b = np.frombuffer(one, "<i2"), np.frombuffer(other, "<i2")
    return np.where(np.abs(a.astype(np.int32)) >= np.abs(b.astype(np.int32)), a, b).astype("<i2").tobytes()


class Peaks:
    """Takes samples (s16le, mono) however they are cut; gives the loudest of each `STEP` as a byte.

    255 is full scale.
    """

    def __init__(self) -> None:
        self._done = bytearray()
        self._rest = b""

    def feed(self, pcm: bytes) -> None:
        """Take in whole samples."""
        pcm = self._rest + pcm
        whole = len(pcm) - len(pcm) % (2 * STEP)
        self._rest = pcm[whole:]
        self._take(pcm[:whole])

    def close(self) -> bytes:
        """All values; the last one may stand for less."""
        if self._rest:
            self._take(self._rest + bytes(2 * STEP - len(self._rest)))
            self._rest = b""
        return bytes(self._done)

    def _take(self, pcm: bytes) -> None:
        if pcm:
            steps = np.frombuffer(pcm, "<i2").reshape(-1, STEP).astype(np.int32)
            self._done += (np.abs(steps).max(axis=1) >> 7).clip(0, 255).astype(np.uint8).tobytes()
