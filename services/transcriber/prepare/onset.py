"""Sound of a live recording from some sample on: what lies before is counted, and no more is done with it than must.

An engine that takes a session over needs the end of a recording that may have lasted for hours, and needs it at once:
the very samples, at the very places, that it would have got by decoding everything. So what comes before is not
resampled. Packets of Opus are not even decoded, since they say how long they sound (`opus.py`), and since a decoder
that has left some out gives the same samples again, to the last bit, a few seconds later. That holds for no other
codec that browsers record: AAC's decoder draws its noise from one sequence through the whole recording.
"""

from collections.abc import Iterator
from math import gcd
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from services.transcriber.prepare.media import FRAME, SAMPLE_RATE
from services.transcriber.prepare.opus import samples_in
from services.transcriber.prepare.resample import Mono

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet

OPUS_RATE = 48_000
HEAD = 1.0
"""Seconds of Opus that are decoded at the beginning, of which the container has some left out: they are counted."""
PREROLL = 20.0
"""Seconds of Opus that are decoded before what is wanted.

Measured in all three modes of the codec (SILK, hybrid, CELT), amid speech: after at most 6 s all samples were those of
a decoder that has heard everything.
"""
WARM = FRAME
"""Samples that are resampled before what is wanted: more than the filter is long."""


class Onset:
    """As `Mono`, but gives nothing before the sample `wanted`."""

    def __init__(self, wanted: int, codec: str) -> None:
        self._wanted = wanted
        self._opus = codec in ("opus", "libopus")
        self._mono = Mono()
        self._format: tuple[str, str, int] | None = None
        self._before = 0  # samples that came of sound in another format
        self._native = 0  # samples in this format, as the file has them
        self._left_out: int | None = None  # samples still to come from the resampler before what is wanted

    @property
    def passed(self) -> int:
        """Samples that were passed over so far, or would have been `wanted` by now."""
        rate = self._format[2] if self._format else SAMPLE_RATE
        return min(self._wanted, self._before + _resampled(self._native, rate))

    def spare(self, packet: "Packet[AudioStream]") -> int:
        """Samples as the file has them, of each channel, of a packet that need not be decoded; else 0."""
        if not self._opus or self._left_out is not None or self._before or self._native < HEAD * OPUS_RATE:
            return 0
        if packet.has_sidedata("skip_samples"):
            return 0
        samples = samples_in(bytes(packet))
        ahead = self._wanted * (OPUS_RATE // SAMPLE_RATE) - self._native - samples
        if ahead < PREROLL * OPUS_RATE:
            return 0
        self._native += samples
        return samples

    def convert(self, frame: "AudioFrame") -> Iterator[NDArray[np.float32]]:
        """What has become ready with this frame."""
        if self._left_out is None:
            late = self._first(frame)
            if late is None:
                return
            frame = late
        yield from self._cut(self._mono.convert(frame))

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """What the resampler still holds."""
        yield from self._cut(self._mono.flush())

    def _first(self, frame: "AudioFrame") -> "AudioFrame | None":
        """Of the frame in which the resampler is to begin what it is to have; None where that is later."""
        rate = frame.sample_rate
        this = (frame.format.name, frame.layout.name, rate)
        if this != self._format:
            if self._format is not None:
                self._before += _resampled(self._native, self._format[2])
            self._format, self._native = this, 0
        # The resampler begins where a sample of the file and one of ours coincide, so that its phases are the same.
        step = rate // gcd(rate, SAMPLE_RATE)
        begin = max(0, (self._wanted - self._before - WARM) * rate // SAMPLE_RATE // step * step)
        at = begin - self._native
        self._native += frame.samples
        if at >= frame.samples:
            return None
        self._left_out = self._wanted - self._before - begin * SAMPLE_RATE // rate
        return _from(frame, at) if at > 0 else frame

    def _cut(self, pieces: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for piece in pieces:
            left_out = min(self._left_out or 0, piece.shape[1])
            if left_out:
                self._left_out = (self._left_out or 0) - left_out
                piece = piece[:, left_out:]
            if piece.shape[1]:
                yield piece


def _resampled(samples: int, rate: int) -> int:
    """Samples at 16 kHz that come of so many at another rate, to the end."""
    return -(-samples * SAMPLE_RATE // rate)


def _from(frame: "AudioFrame", at: int) -> "AudioFrame":
    """A frame without its first samples."""
    array: NDArray[Any] = frame.to_ndarray()
    width = 1 if frame.format.is_planar else frame.layout.nb_channels
    rest = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(array[:, at * width :]), format=frame.format.name, layout=frame.layout.name
    )
    rest.sample_rate = frame.sample_rate
    return rest
