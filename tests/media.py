"""Recordings for tests, made here and now: signals, a synthetic voice, and every container and codec we take.

Signals are one-dimensional int16 arrays, 16 kHz mono. No recording of a person is shipped: `speech()` is a small
source-filter synthesiser (after D. Klatt, "Software for a cascade/parallel formant synthesizer", 1980): pulses of a
glottis through resonators that move from vowel to vowel, with pauses between phrases. It says nothing, but Silero
takes it for a voice, which is what cutting needs.
"""

import io
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

RATE = 16_000
Samples = NDArray[np.int16]

_VOWELS = np.array(  # first three formants in Hz, of a, e, i, o, u, schwa (Peterson & Barney 1952, men)
    [[730, 1090, 2440], [530, 1840, 2480], [270, 2290, 3010], [570, 840, 2410], [300, 870, 2240], [500, 1350, 2500]],
    dtype=np.float64,
)
_BANDWIDTHS = (80.0, 100.0, 140.0)
_HOP = 80  # the mouth moves every 5 ms


def _to_int16(wave: NDArray[np.float64]) -> Samples:
    return np.clip(np.round(wave * 32767), -32768, 32767).astype(np.int16)


def silence(seconds: float) -> Samples:
    """Digital silence."""
    return np.zeros(round(seconds * RATE), dtype=np.int16)


def tone(seconds: float, hertz: float = 440.0, level: float = 0.3) -> Samples:
    """A sine; `level` is its amplitude, 1.0 being full scale."""
    return _to_int16(level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE))


def noise(seconds: float, level: float = 0.1, seed: int = 1) -> Samples:
    """White Gaussian noise; `level` is its standard deviation, 1.0 being full scale."""
    return _to_int16(np.random.default_rng(seed).normal(0.0, level, round(seconds * RATE)))


def _phrase(length: int, random: np.random.Generator) -> NDArray[np.float64]:
    """One phrase without a pause: about five syllables a second over a falling melody."""
    hops = -(-length // _HOP)
    syllables = max(2, round(hops * _HOP / RATE * 5))
    places = np.linspace(0, hops, syllables)
    targets = _VOWELS[random.integers(0, len(_VOWELS), syllables)]
    formants = np.stack([np.interp(np.arange(hops), places, targets[:, i]) for i in range(3)])
    beat = np.abs(np.sin(np.pi * np.arange(hops) / (hops / syllables)))
    pitch = np.linspace(140, 105, hops) * (1 + 0.03 * np.sin(np.arange(hops) / 9)) + random.normal(0, 1, hops)

    phase = np.cumsum(np.repeat(pitch, _HOP) / RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = pulses + random.normal(0, 0.02, pulses.size)
    wave = np.empty_like(source)
    state = np.zeros((3, 2))
    for hop in range(hops):
        coefficients = []
        for centre, width in zip(formants[:, hop], _BANDWIDTHS, strict=True):
            radius = np.exp(-np.pi * width / RATE)
            b, c = 2 * radius * np.cos(2 * np.pi * centre / RATE), -radius * radius
            coefficients.append((1 - b - c, b, c))
        for i in range(hop * _HOP, (hop + 1) * _HOP):
            x = source[i]
            for k, (a, b, c) in enumerate(coefficients):
                y = a * x + b * state[k, 0] + c * state[k, 1]
                state[k, 1], state[k, 0] = state[k, 0], y
                x = y
            wave[i] = x
    wave *= np.repeat(0.25 + 0.75 * beat, _HOP)
    fade = np.minimum(1, np.minimum(np.arange(wave.size), np.arange(wave.size)[::-1]) / 400)
    return (wave * fade / (np.abs(wave).max() or 1.0) * 0.5)[:length]


def speech(seconds: float, seed: int = 1) -> Samples:
    """A voice that speaks without a pause of 0.3 s for `seconds`. Costs about a fifth of that in computing."""
    return _to_int16(_phrase(round(seconds * RATE), np.random.default_rng(seed)))


def talk(seconds: float, seed: int = 1, phrase: float = 4.0, pause: float = 0.6) -> Samples:
    """Phrases of about `phrase` seconds with pauses of about `pause`: long recordings at little cost.

    Eight phrases are made and then repeated in a random order.
    """
    random = np.random.default_rng(seed)
    stock = [_to_int16(_phrase(round(phrase * RATE * s), random)) for s in random.uniform(0.6, 1.4, 8)]
    pieces: list[Samples] = []
    length, wanted = 0, round(seconds * RATE)
    while length < wanted:
        piece = [stock[random.integers(len(stock))], silence(pause * random.uniform(0.7, 1.6))]
        pieces += piece
        length += sum(p.size for p in piece)
    return np.concatenate(pieces)[:wanted]


@dataclass(frozen=True)
class Format:
    """A container with a codec inside. `tolerance`: how far its length may be off, in seconds (codec padding)."""

    name: str
    container: str
    codec: str
    rate: int = RATE
    layout: str = "mono"
    sample_format: str = "s16"
    tolerance: float = 0.0
    video: str | None = None
    lossless: bool = False


# What people really have. The name's end, after the dash, says what is unusual about it.
FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("wav", "wav", "pcm_s16le", lossless=True),
        Format("wav-44k-stereo-24bit", "wav", "pcm_s24le", 44_100, "stereo", "s32", 0.01),
        Format("wav-float", "wav", "pcm_f32le", 48_000, "mono", "flt", 0.01),
        Format("wav-mulaw", "wav", "pcm_mulaw", 8_000, "mono", "s16", 0.01),
        Format("rf64", "wav", "pcm_s16le", lossless=True),
        Format("mp3", "mp3", "libmp3lame", 44_100, "stereo", "s16p", 0.06),
        Format("m4a", "ipod", "aac", 44_100, "stereo", "fltp", 0.06),
        Format("m4a-alac", "ipod", "alac", 44_100, "stereo", "s16p", 0.06),
        Format("aac", "adts", "aac", 44_100, "mono", "fltp", 0.06),
        Format("flac", "flac", "flac", lossless=True),
        Format("ogg-opus", "ogg", "libopus", 48_000, "mono", "s16", 0.03),
        Format("ogg-vorbis", "ogg", "vorbis", 44_100, "stereo", "fltp", 0.06),
        Format("ogg-flac", "ogg", "flac", lossless=True),
        Format("webm", "webm", "libopus", 48_000, "mono", "s16", 0.03),
        Format("webm-video", "webm", "libopus", 48_000, "stereo", "s16", 0.03, "libvpx-vp9"),
        Format("mp4-video", "mp4", "aac", 48_000, "stereo", "fltp", 0.06, "mpeg4"),
        Format("mov-video", "mov", "pcm_s16le", 48_000, "stereo", "s16", 0.01, "mpeg4"),
        Format("mkv-video", "matroska", "aac", 48_000, "stereo", "fltp", 0.06, "mpeg4"),
        Format("3gp-amr", "3gp", "libopencore_amrnb", 8_000, "mono", "s16", 0.03),
        Format("amr", "amr", "libopencore_amrnb", 8_000, "mono", "s16", 0.03),
        Format("aiff", "aiff", "pcm_s16be", lossless=True),
        Format("caf", "caf", "pcm_s16le", lossless=True),
    )
}


def encode(samples: Samples, name: str) -> bytes:
    """The samples as a file of `FORMATS[name]`."""
    wanted = FORMATS[name]
    options = {"rf64": "always"} if name == "rf64" else {}
    return mux(samples, wanted, options)


def mux(samples: Samples, wanted: Format, options: dict[str, str] | None = None) -> bytes:
    """The samples as a file of any container and codec, for what `FORMATS` does not hold."""
    with tempfile.NamedTemporaryFile() as out:  # some muxers read again what they wrote
        _mux(out.name, samples, wanted, options or {})
        return out.read()


def _mux(path: str, samples: Samples, wanted: Format, options: dict[str, str]) -> None:
    with av.open(path, "w", format=wanted.container, options=options) as container:
        stream = container.add_stream(wanted.codec, rate=wanted.rate, layout=wanted.layout)
        stream.codec_context.format = wanted.sample_format
        stream.codec_context.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder is called so
        picture = _add_picture(container, wanted.video) if wanted.video else None
        container.start_encoding()
        if picture:
            _draw(container, picture, samples.size / RATE)
        for frame in _frames(samples):
            container.mux(stream.encode(frame))  # PyAV resamples and splits to what the codec wants
        container.mux(stream.encode(None))


def picture_only(seconds: float = 1.0) -> bytes:
    """An MP4 with a video track and no sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        _draw(container, _add_picture(container, "mpeg4"), seconds)
    return out.getvalue()


def _frames(samples: Samples) -> Iterator[av.AudioFrame]:
    for at in range(0, samples.size, RATE):
        frame = av.AudioFrame.from_ndarray(samples[None, at : at + RATE], format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts, frame.time_base = at, Fraction(1, RATE)
        yield frame


def _add_picture(container: OutputContainer, codec: str) -> VideoStream:
    stream = container.add_stream(codec, rate=5)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    return stream


def _draw(container: OutputContainer, stream: VideoStream, seconds: float) -> None:
    for at in range(max(1, round(seconds * 5))):
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.pts, frame.time_base = at, Fraction(1, 5)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def stereo(left: Samples, right: Samples) -> bytes:
    """A WAV file with two channels, 16 kHz."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.stack([left, right], axis=1).astype("<i2").tobytes())
    return sink.getvalue()
