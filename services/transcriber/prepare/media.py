"""What the sandboxed decoder and its parent both know: limits, results, errors and the form they cross the pipe in.

Imported by the decoder, whose memory is counted: standard library only, and no pydantic.
"""

import json
import struct
from array import array
from dataclasses import asdict, dataclass

from services.contracts.errors import ERRORS, Code

SAMPLE_RATE = 16_000
FRAME = 512  # samples that Silero judges at a time: 32 ms
BLOCK = 156 * FRAME  # samples that cross the pipe at a time: 4.99 s, 160 kB

ASKED = 1 << 20
"""Bytes of a recording in the store that a decoder asks for at a time, but at its end."""
_READINGS = 4  # times that a recording may be read; its index first and its end are little more than once


class MediaError(Exception):
    """The recording is at fault and trying again cannot help.

    `code` is one of `not_audio`, `no_audio_track`, `empty_audio`, `too_long`, `media_limits`; `detail` is a sentence
    for people that names codecs and numbers and never what the recording says about itself.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        self.code = code
        self.detail = detail or f"{ERRORS[code].title}."
        super().__init__(self.detail)


class DecoderDied(Exception):  # noqa: N818 - it is what happened, to a process
    """The decoder crashed, was killed, ran out of memory or out of its budget of time: try again, but not for ever."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one recording may cost. All but `memory_bytes` are checked while decoding, whatever its headers say."""

    max_seconds: float = 12 * 3600
    """Of decoded audio."""
    min_rate: int = 4_000
    max_rate: int = 192_000
    max_channels: int = 8
    native_samples: int = 2 * 96_000 * 12 * 3600
    """Samples × channels before resampling: 12 hours of 96 kHz stereo. A forged rate makes them dear."""
    memory_bytes: int = 1 << 30
    """Address space of the decoder (RLIMIT_AS)."""
    cpu_seconds: float = 30.0
    """Processor time for a start, to which comes `cpu_share` for each second decoded so far (0.004 is usual)."""
    cpu_share: float = 0.05
    stall_seconds: float = 60.0
    """Wall time that may pass while somebody waits for the next block."""
    live: bool = False
    """The source is a pipe that somebody speaks into: blocks as short as they come, and no wait is too long."""
    raw: str = ""
    """FFmpeg's name of a format without a header (`s16le`, `f32le`, `mulaw`, `alaw`), of a live source."""
    raw_rate: int = 16_000
    raw_channels: int = 1

    @property
    def cpu_ceiling(self) -> int:
        """The kernel's own limit, in whole seconds, should the parent fail to enforce the budget."""
        return int(self.cpu_seconds + self.cpu_share * self.max_seconds) + 1


@dataclass(frozen=True, slots=True)
class Order:
    """What the fork server is asked for: a recording within these limits, its channels mixed or kept apart.

    With a `size` in bytes the recording is asked for by ranges; else its descriptor is an open file, or a pipe. Of a
    live one nothing is given before the sample `wanted`, nor searched for voice.
    """

    limits: Limits
    separate: bool = False
    size: int | None = None
    wanted: int = 0

    def to_json(self) -> bytes:
        """For the fork server."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Order":
        """What `to_json` wrote."""
        fields = json.loads(text)
        return cls(Limits(**fields["limits"]), fields["separate"], fields["size"], fields["wanted"])


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What was decoded. `container_seconds` is what the container claims, where its claim can be relied on."""

    container: str
    codec: str
    sample_rate: int
    channels: int
    decoded_samples: int
    container_seconds: float | None
    truncated: bool
    """The container promised noticeably more audio than could be decoded, or broke off with an error."""


@dataclass(frozen=True, slots=True)
class Block:
    """About five seconds of a recording: s16le, 16 kHz, mono; a multiple of 512 samples except in the last block."""

    pcm: bytes
    speech: tuple[float, ...]
    """The probability of voice in each 512 samples (Silero), the last ones filled up with silence."""
    channels: tuple[int, ...] = (0,)
    """The channels that hold these samples; (0,) where all are mixed."""


HEADER = struct.Struct("<cBII")  # kind, the channels as bits, bytes of the first field, bytes of the second
BLOCK_KIND, INFO_KIND, REFUSED_KIND, WISH_KIND = b"b", b"i", b"r", b"w"
_WISH = struct.Struct("<Q")  # where the piece that is wanted begins
MAX_FIELD = 1 << 20  # the reader believes no length beyond this


def pack_block(channels: tuple[int, ...], pcm: bytes, probabilities: bytes) -> tuple[bytes, bytes, bytes]:
    """A block as it crosses the pipe; `probabilities` are native floats of 32 bits."""
    bits = sum(1 << channel for channel in channels)
    return HEADER.pack(BLOCK_KIND, bits, len(pcm), len(probabilities)), pcm, probabilities


def unpack_block(bits: int, pcm: bytes, probabilities: bytes) -> Block:
    """The inverse of `pack_block`. Raises ValueError for what does not fit together."""
    values = array("f")
    values.frombytes(probabilities)
    if not bits or not pcm or len(pcm) % 2 or len(values) != -(-len(pcm) // (2 * FRAME)):
        raise ValueError("a block whose probabilities do not match its samples")
    return Block(pcm, tuple(values), tuple(channel for channel in range(8) if bits >> channel & 1))


def pack_info(info: MediaInfo) -> bytes:
    """The record after the last block."""
    text = json.dumps(asdict(info)).encode()
    return HEADER.pack(INFO_KIND, 0, len(text), 0) + text


def unpack_info(text: bytes) -> MediaInfo:
    """The inverse of `pack_info`. Raises ValueError, KeyError or TypeError for anything else."""
    fields = json.loads(text)
    claimed = fields["container_seconds"]
    return MediaInfo(
        container=str(fields["container"])[:40],
        codec=str(fields["codec"])[:40],
        sample_rate=int(fields["sample_rate"]),
        channels=int(fields["channels"]),
        decoded_samples=int(fields["decoded_samples"]),
        container_seconds=None if claimed is None else float(claimed),
        truncated=bool(fields["truncated"]),
    )


def pack_refusal(error: MediaError) -> bytes:
    """The record in place of everything that would have followed."""
    code, detail = error.code.value.encode(), error.detail.encode()
    return HEADER.pack(REFUSED_KIND, 0, len(code), len(detail)) + code + detail


def unpack_refusal(code: bytes, detail: bytes) -> MediaError:
    """The inverse of `pack_refusal`. Raises ValueError for a code that there is not."""
    text = "".join(c for c in detail.decode("ascii", "replace") if c.isprintable())
    return MediaError(Code(code.decode("ascii", "replace")), text[:200])


def readings(size: int) -> int:
    """How often a piece of a recording of `size` bytes may be asked for: so that disorder does not cost for ever."""
    return _READINGS * -(-size // ASKED) + 64


def pack_wish(offset: int) -> bytes:
    """The record that asks for `ASKED` bytes from `offset` on, or for those up to the end."""
    return HEADER.pack(WISH_KIND, 0, _WISH.size, 0) + _WISH.pack(offset)


def unpack_wish(text: bytes, size: int) -> int:
    """The inverse of `pack_wish`. Raises ValueError for what is no piece of a recording of `size` bytes."""
    if len(text) != _WISH.size:
        raise ValueError("a wish of another form")
    (offset,) = _WISH.unpack(text)
    if offset % ASKED or offset >= size:
        raise ValueError("a wish beyond the recording")
    return int(offset)
