"""A file to 16 kHz mono s16 samples, as a stream: no size and no length makes it need more memory.

Runs in the sandbox, which is the second wall; the first is here: one demuxer, chosen by the first bytes, no protocol
but our own reading of what we were given, decoders from a list, limits on what comes out.
"""

import errno
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Discard
from numpy.typing import NDArray

from services.contracts.errors import Code
from services.transcriber.prepare.media import BLOCK, FRAME, SAMPLE_RATE, Limits, MediaError, MediaInfo
from services.transcriber.prepare.onset import Onset
from services.transcriber.prepare.reading import Flow, Ranged, Source
from services.transcriber.prepare.resample import Apart, Mono
from services.transcriber.prepare.sniff import demuxer_for, knows_its_length, promised_bytes

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

CODECS = (
    "aac,alac,amrnb,amrwb,flac,libopencore_amrnb,libopencore_amrwb,libopus,libvorbis,mp3,mp3float,opus,pcm_alaw,"
    "pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,"
    "pcm_s8,pcm_u8,vorbis"
)
"""FFmpeg's names of the decoders that may run, as it wants them."""
_CODEC_OPTIONS = {"codec_whitelist": CODECS, "max_samples": str(1 << 20)}
_OPTIONS = {
    "protocol_whitelist": "none",
    "codec_whitelist": CODECS,  # while probing; not looked at when decoding
    "max_streams": "64",
    "probesize": "5000000",
    "analyzeduration": "5000000",
}
_READ = 256 << 10
_LIVE_OPTIONS = {"probesize": "32768", "analyzeduration": "0"}
"""Nobody waits for five seconds of speech to be looked at first: what browsers record says what it is."""
_LEAST_BYTES_PER_SECOND = 750  # 6 kbit/s, the least that Opus is made for: a longer claim from fewer bytes is a lie
_SLACK_SECONDS = 0.5  # containers round, codecs pad

Samples = NDArray[np.int16]


class Recording:
    """One file, or one live source, being decoded. `blocks()` gives the samples, then `info` says what they were.

    With `wanted` it gives those of all channels mixed, from that sample on, the first one being 0.
    """

    info: MediaInfo

    def __init__(
        self, source: Source | Ranged | Flow, limits: Limits, *, separate: bool = False, wanted: int = 0
    ) -> None:
        self._source = source
        self._limits = limits
        self._separate = separate
        self._wanted = wanted
        self._block = FRAME if limits.live else BLOCK
        self._native = 0
        self._decoded = 0

    def blocks(self) -> Iterator[Samples]:
        """Channels × samples, `BLOCK` at a time except the last; mixed, there is one channel. Raises MediaError."""
        limits = self._limits
        name = limits.raw or demuxer_for(self._source.read_at)
        if name is None:
            raise MediaError(Code.NOT_AUDIO, "The file is in none of the formats that are read.")
        try:
            container = av.open(
                self._source,
                "r",
                format=name,
                options=_OPTIONS | {"format_whitelist": name} | _live_options(limits),
                metadata_errors="ignore",
                buffer_size=_READ,
            )
        except (FFmpegError, ValueError) as error:
            _raise_if_memory(error)
            raise MediaError(Code.NOT_AUDIO, "It begins like audio but cannot be read.") from error
        with container:
            stream = self._stream(container)
            claimed = self._claimed_seconds(container, stream, name)
            if claimed and self._limits.max_seconds < claimed <= self._source.size / _LEAST_BYTES_PER_SECOND:
                raise self._too_long()
            broken = yield from self._samples(container, stream)
            if not self._decoded:
                raise MediaError(Code.NOT_AUDIO if broken else Code.NO_SOUND, "Not one sample could be decoded.")
            seconds = self._decoded / SAMPLE_RATE
            self.info = MediaInfo(
                container=name,
                codec=stream.codec_context.name,
                sample_rate=stream.codec_context.sample_rate,
                channels=stream.codec_context.layout.nb_channels,
                decoded_samples=self._decoded,
                container_seconds=claimed,
                truncated=broken or (claimed or 0.0) > seconds + _SLACK_SECONDS + 0.001 * seconds,
            )

    def _stream(self, container: "InputContainer") -> "AudioStream":
        if not container.streams.audio:
            code = Code.NO_TRACK if len(container.streams) else Code.NOT_AUDIO
            raise MediaError(code)
        stream = container.streams.audio[0]
        context = stream.codec_context
        if context is None or context.name not in CODECS.split(","):
            raise MediaError(Code.NOT_AUDIO, f"The codec {getattr(context, 'name', 'of the track')} is not read.")
        context.options = _CODEC_OPTIONS
        context.thread_count = 1
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        self._check(context.sample_rate, context.layout.nb_channels)
        return stream

    def _samples(self, container: "InputContainer", stream: "AudioStream") -> Generator[Samples, None, bool]:
        """Yields the blocks; the generator's value says whether the file breaks off."""
        onset = Onset(self._wanted, stream.codec_context.name) if self._wanted else None
        converter: Mono | Apart | Onset = onset or (Apart() if self._separate else Mono())
        pending: list[NDArray[np.float32]] = []
        waiting = 0
        packets = container.demux(stream)
        broken = promised_bytes(self._source.read_at) > self._source.size
        damaged = False
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (FFmpegError, ValueError) as error:
                _raise_if_memory(error)
                broken = True
                break
            if onset is not None and (spared := onset.spare(packet)):
                self._add(spared * stream.codec_context.layout.nb_channels)
                continue
            try:
                frames = packet.decode()
                damaged &= not packet.size  # the packet that ends a stream is empty
            except (FFmpegError, ValueError) as error:  # what can be decoded is, as players do
                _raise_if_memory(error)
                damaged = not isinstance(error, EOFError)
                continue
            for frame in frames:
                self._count(frame)
                for piece in converter.convert(frame):
                    pending.append(piece)
                    waiting += piece.shape[1]
                if waiting >= self._block:
                    joined = np.concatenate(pending, axis=1)
                    whole = waiting - waiting % self._block
                    for at in range(0, whole, BLOCK):
                        yield self._finish(joined[:, at : min(at + BLOCK, whole)])
                    pending, waiting = [joined[:, whole:]], waiting - whole
        if pending := [*pending, *converter.flush()]:
            joined = np.concatenate(pending, axis=1)
            for at in range(0, joined.shape[1], BLOCK):
                yield self._finish(joined[:, at : at + BLOCK])
        if onset is not None:
            self._decoded = self._decoded or onset.passed
        return broken or damaged

    def _count(self, frame: "AudioFrame") -> None:
        channels = frame.layout.nb_channels
        self._check(frame.sample_rate, channels)
        self._add(frame.samples * channels)

    def _add(self, samples: int) -> None:
        self._native += samples
        if self._native > self._limits.native_samples:
            raise MediaError(Code.MEDIA_LIMITS, "The recording holds too many samples in all its channels.")

    def _check(self, rate: int, channels: int) -> None:
        limits = self._limits
        if not limits.min_rate <= rate <= limits.max_rate:
            raise MediaError(Code.MEDIA_LIMITS, f"A sampling rate of {rate} Hz is not read.")
        if not 1 <= channels <= limits.max_channels:
            raise MediaError(Code.MEDIA_LIMITS, f"A recording with {channels} channels is not read.")

    def _finish(self, wave: NDArray[np.float32]) -> Samples:
        """To s16, counted. What is no number becomes silence: a float WAV may hold anything."""
        self._decoded = (self._decoded or self._wanted) + wave.shape[1]
        self.check_length(1)
        if not np.isfinite(wave).all():
            wave = np.nan_to_num(wave, nan=0.0, posinf=0.0, neginf=0.0)
        samples: Samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
        return samples

    def check_length(self, channels: int) -> None:
        """What is heard of so many different channels counts together. Raises MediaError."""
        if self._decoded * channels > self._limits.max_seconds * SAMPLE_RATE:
            raise self._too_long()

    def _too_long(self) -> MediaError:
        return MediaError(Code.TOO_LONG, f"It lasts longer than {self._limits.max_seconds / 3600:g} hours.")

    def _claimed_seconds(self, container: "InputContainer", stream: "AudioStream", name: str) -> float | None:
        """What the container says about this track, unless it only guesses from the size of the file."""
        if not knows_its_length(name, self._source.read_at):
            return None
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        tag = stream.metadata.get("DURATION", "")  # Matroska's per-track statistics, 00:00:05.021000000
        try:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            if len(container.streams) > 1 or container.duration is None:
                return None  # the container's length may be the picture's
            return container.duration / av.time_base


def _live_options(limits: Limits) -> dict[str, str]:
    if not limits.live:
        return {}
    layout = "mono" if limits.raw_channels == 1 else "stereo"
    raw = {"sample_rate": str(limits.raw_rate), "ch_layout": layout} if limits.raw else {}
    return _LIVE_OPTIONS | raw


def _raise_if_memory(error: Exception) -> None:
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        raise MediaError(Code.MEDIA_LIMITS, "Decoding it takes more memory than is allowed.") from error
