"""Recordings to measure with: a folder of real speech with its text, or a synthetic voice where there is none.

Two shapes of folder are read, at any depth: `transcripts.tsv` or `NAME.transcripts.tsv` (file, tab, text) beside
recordings, and LibriSpeech's `*.trans.txt` (id, space, text) beside `<id>.flac`.
"""

import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
PAUSE = 0.5
"""Seconds between recordings that are joined."""
ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm")
Samples = NDArray[np.int16]


@dataclass(frozen=True)
class Recording:
    """A file, how long it is in seconds, and what is said in it, if that is known."""

    path: Path
    seconds: float
    text: str | None = None


class Speech:
    """Gives each measurement the recordings that it needs; makes those that are not there in `made`."""

    def __init__(self, folder: Path | None, made: Path) -> None:
        self._made = made
        made.mkdir(parents=True, exist_ok=True)
        self._found = sorted(_read(folder), key=lambda one: str(one.path)) if folder else []
        self.real = bool(self._found)

    def long(self, seconds: float) -> Recording:
        """One of about that length: a recording of the folder within a tenth of it, else short ones joined."""
        near = [one for one in self._found if abs(one.seconds - seconds) <= seconds / 10 and one.text]
        if near:
            return min(near, key=lambda one: abs(one.seconds - seconds))
        return self._joined(f"long-{seconds:.0f}", seconds)

    def clips(self, count: int, shortest: float, longest: float) -> list[Recording]:
        """So many different ones of such lengths; joined and cut where the folder holds too few."""
        fitting = [one for one in self._found if shortest <= one.seconds <= longest][:count]
        lengths = np.linspace(shortest, longest, count)[len(fitting) :]
        return [*fitting, *(self._cut(f"clip-{n}-{length:.1f}", float(length), n) for n, length in enumerate(lengths))]

    def _cut(self, name: str, seconds: float, seed: int) -> Recording:
        """Exactly so long; nobody knows what words a cut leaves, so it has no text."""
        if self.real:
            turn = seed % len(self._found)
            order = [*self._found[turn:], *self._found[:turn]]
            samples = np.concatenate([load(one.path) for one, _ in _until(order, seconds)])
        else:
            samples = _talk(seconds, seed)
        samples = samples[: round(seconds * RATE)]
        return Recording(save(self._made / f"{name}.wav", samples), samples.size / RATE)

    def _joined(self, name: str, seconds: float) -> Recording:
        if not self.real:
            samples = _talk(seconds, 1)
            return Recording(save(self._made / f"{name}.wav", samples), samples.size / RATE)
        short = [one for one in self._found if one.text and one.seconds <= 40] or self._found
        chosen = [one for one, _ in _until(short, seconds)]
        pause = np.zeros(round(PAUSE * RATE), np.int16)
        samples = np.concatenate([piece for one in chosen for piece in (load(one.path), pause)])
        text = " ".join(one.text for one in chosen if one.text)
        return Recording(save(self._made / f"{name}.wav", samples), samples.size / RATE, text)


def _until(recordings: list[Recording], seconds: float) -> Iterator[tuple[Recording, float]]:
    """These in turn, again from the first where need be, until they last so long together."""
    total = 0.0
    for one in cycle(recordings):
        total += one.seconds
        yield one, total
        if total >= seconds:
            return


def _talk(seconds: float, seed: int) -> Samples:
    from tests.media import talk  # beside us in the repository, and only needed where no speech was given

    return talk(seconds, seed)


def _read(folder: Path) -> Iterator[Recording]:
    for listing in sorted([*folder.rglob("*transcripts.tsv"), *folder.rglob("*.trans.txt")]):
        separator = "\t" if listing.suffix == ".tsv" else " "
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(separator)
            path = _file(listing.parent / name)
            if path is not None:
                yield replace(measure(path), text=text.strip())


def _file(named: Path) -> Path | None:
    """The file of that name, whatever its format is called."""
    stem = named.with_suffix("") if named.suffix in ENDINGS else named
    tries = [named, *(stem.with_name(stem.name + ending) for ending in ENDINGS)]
    return next((path for path in tries if path.is_file()), None)


def measure(path: Path) -> Recording:
    """A file with its length, as its container says, or as it decodes where that does not."""
    with av.open(str(path)) as container:
        said = container.duration
    return Recording(path, said / av.time_base if said else load(path).size / RATE)


def load(path: Path) -> Samples:
    """16 kHz mono."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(str(path)) as container:
        frames = [ready for frame in container.decode(audio=0) for ready in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def save(path: Path, samples: Samples) -> Path:
    """As WAV."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return path


def hours_long(source: Recording, seconds: float, path: Path) -> Recording:
    """A recording of so many seconds, made cheaply: `source` encoded once, its packets repeated.

    Opus in Matroska, whose packets do not know where in the recording they are.
    """
    pts, step = 0, 0.06
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("libopus", rate=48_000, layout="mono")
        stream.codec_context.format = "s16"
        stream.codec_context.options = {"frame_duration": "60", "b": "24000"}
        samples = np.concatenate([load(source.path), np.zeros(5 * RATE, np.int16)])
        packets = [bytes(packet) for packet in encoded(stream, samples)]
        for _, data in zip(range(round(seconds / step)), cycle(packets), strict=False):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = stream.codec_context.time_base
            packet.pts = packet.dts = pts
            packet.duration = round(step * 48_000)
            pts += packet.duration
            out.mux(packet)
    return Recording(path, pts / 48_000)


def encoded(stream: av.AudioStream, samples: Samples) -> Iterator["av.Packet[av.AudioStream]"]:
    """Packets of 60 ms at 48 kHz."""
    resampler = av.AudioResampler("s16", "mono", 48_000, 2880)
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = RATE
    for ready in resampler.resample(frame):
        yield from stream.encode(ready)
