"""Frames of any format to 16 kHz floats: all channels mixed, or each by itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from services.contracts.errors import Code
from services.transcriber.prepare.media import SAMPLE_RATE, MediaError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame


class Mono:
    """Frames of any format to 16 kHz mono floats. Some files change their format half-way."""

    def __init__(self) -> None:
        self._format: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def convert(self, frame: "AudioFrame") -> Iterator[NDArray[np.float32]]:
        """What has become ready with this frame."""
        this = (frame.format.name, frame.layout.name, frame.sample_rate)
        if this != self._format:
            yield from self.flush()
            self._format = this
            self._resampler = av.AudioResampler(
                "flt",
                "mono",
                SAMPLE_RATE,
                options={"rematrix_maxval": "1.0"},  # as for integers: no clipping
            )
        frame.pts = None  # forged times must neither fill nor drop anything
        yield from self._resample(frame)

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """What the resampler still holds."""
        if self._resampler is not None:
            yield from self._resample(None)
            self._resampler = None

    def _resample(self, frame: "AudioFrame | None") -> Iterator[NDArray[np.float32]]:
        assert self._resampler is not None
        for ready in self._resampler.resample(frame):
            wave: NDArray[np.float32] = ready.to_ndarray().astype(np.float32, copy=False)
            yield wave


class Apart:
    """Frames of any format to 16 kHz floats, each channel by itself, in the order in which the file has them.

    Whatever the file calls its channels: none is mixed into another, and equal ones stay equal to the last bit.
    """

    def __init__(self) -> None:
        self._channels: list[Mono] = []

    def convert(self, frame: "AudioFrame") -> Iterator[NDArray[np.float32]]:
        """What has become ready with this frame. Raises MediaError where the number of channels changes."""
        count = frame.layout.nb_channels
        self._channels = self._channels or [Mono() for _ in range(count)]
        if count != len(self._channels):
            raise MediaError(Code.MEDIA_LIMITS, "The number of its channels changes half-way; send it mixed.")
        native = frame.to_ndarray()
        rows = native if frame.format.is_planar else native.reshape(-1, count).T
        yield from _together(
            [list(mono.convert(_mono(frame, row))) for mono, row in zip(self._channels, rows, strict=True)]
        )

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """What the resamplers still hold."""
        yield from _together([list(mono.flush()) for mono in self._channels])


def _mono(frame: "AudioFrame", row: NDArray[Any]) -> "AudioFrame":
    """One channel of a frame as a frame of its own."""
    one = av.AudioFrame.from_ndarray(np.ascontiguousarray(row)[None], format=frame.format.packed.name, layout="mono")
    one.sample_rate = frame.sample_rate
    return one


def _together(channels: list[list[NDArray[np.float32]]]) -> Iterator[NDArray[np.float32]]:
    """Pieces of each channel to pieces of all: the resamplers are alike, so they give as much at a time."""
    for pieces in zip(*channels, strict=True):
        yield np.concatenate(pieces)
