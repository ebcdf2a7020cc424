"""A live recording from some sample on: the same samples as of the whole, and little is done for those before."""

import io
from collections.abc import Iterator

import av
import numpy as np
import pytest

from services.transcriber.prepare.media import FRAME
from services.transcriber.prepare.onset import HEAD, OPUS_RATE, PREROLL, Onset
from services.transcriber.prepare.opus import samples_in
from tests.live.speaker import decoded, recorded
from tests.media import RATE, Samples
from tests.speech import joined, sample

SECONDS = 28


def said() -> Samples:
    """Somebody speaks, nearly without a pause."""
    whole = joined([sample("en", "counting"), sample("en", "quick_brown_fox")] * 7, 0.1).samples
    return whole[: SECONDS * RATE]


def opus(samples: Samples, **options: str) -> bytes:
    """WebM as an encoder makes it that was asked for something else than usual."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as out:
        stream = out.add_stream("libopus", rate=OPUS_RATE, layout="stereo")
        stream.codec_context.format = "s16"
        stream.codec_context.options = options
        resampler = av.AudioResampler("s16", "stereo", OPUS_RATE, round(float(options["frame_duration"]) * 48))
        both = np.stack([samples, np.roll(samples, 900) // 2], 1).reshape(1, -1).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = RATE
        for ready in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(ready):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return file.getvalue()


def packets(data: bytes) -> Iterator["av.Packet[av.AudioStream]"]:
    """Those of the recording that hold sound."""
    with av.open(io.BytesIO(data)) as container:
        yield from (packet for packet in container.demux(container.streams.audio[0]) if packet.size)


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    """As browsers make them, and as they do where little was asked for: then Opus changes its mode amid speech."""
    sound = said()
    return {
        "webm": recorded(sound),
        "ogg": recorded(sound, "ogg"),
        "mp4": recorded(sound, "mp4", "aac"),
        "low": opus(sound, frame_duration="60", b="20000", application="voip"),
        "short": opus(sound, frame_duration="10", b="24000", application="voip"),
    }


@pytest.mark.parametrize("name", ["webm", "ogg", "mp4", "low", "short"])
def test_the_same_samples_at_the_same_places(recordings: dict[str, bytes], name: str) -> None:
    """From wherever it is wanted, a recording gives to the last bit what the whole of it gives from there on."""
    whole = decoded(recordings[name])
    assert abs(len(whole) / RATE - SECONDS) < 0.2
    frames = len(whole) // FRAME
    for wanted in (FRAME, frames * 4 // 5 * FRAME, (frames - 40) * FRAME, frames * FRAME):
        assert np.array_equal(decoded(recordings[name], wanted), whole[wanted:]), wanted


@pytest.mark.parametrize("name", ["webm", "low", "short"])
def test_opus_says_how_long_it_sounds(recordings: dict[str, bytes], name: str) -> None:
    """Of every packet is told, without decoding, how many samples the decoder makes of it."""
    told, made = [], []
    for packet in packets(recordings[name]):
        told.append(samples_in(bytes(packet)))
        made.append(sum(frame.samples for frame in packet.decode()))
    assert told[1:-1] == made[1:-1]  # of the first and the last the container has some left out
    assert min(told) > 0


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\xf8" + bytes(100), 960),
        (b"\xf9" + bytes(100), 1920),
        (b"\xfa\x20" + bytes(99), 1920),
        (b"\xfa\xfc\x01" + bytes(300), 1920),
        (b"\xfb\x03" + bytes(99), 2880),
        (b"\xfb\x43\x05" + bytes(99 + 5), 2880),
        (b"\xfb\x83\x20\x20" + bytes(96), 2880),
        (b"\x1b\x02" + bytes(98), 5760),
        # Malformed, or nothing in it.
        (b"", 0),
        (b"\xf8", 0),
        (b"\xf8" + bytes(1276), 0),
        (b"\xf9" + bytes(101), 0),
        (b"\xfa\x70" + bytes(99), 0),
        (b"\xfa", 0),
        (b"\xfb", 0),
        (b"\xfb\x00" + bytes(99), 0),
        (b"\xfb\x03" + bytes(100), 0),
        (b"\xfb\x43\xff\xff", 0),
        (b"\xfb\x83\x60\x60" + bytes(96), 0),
        (b"\xfb\x83\x60", 0),
        (b"\x1b\x03" + bytes(99), 0),
    ],
)
def test_packets_of_all_codes(packet: bytes, samples: int) -> None:
    """Each way to put frames into a packet is read; of what is malformed nothing is told."""
    assert samples_in(packet) == samples


def test_opus_long_before_is_not_decoded(recordings: dict[str, bytes]) -> None:
    """Of a long recording a decoder hears its head, and what lies shortly before the sample that is wanted."""
    wanted = (SECONDS - 4) * RATE // FRAME * FRAME
    onset, heard, spared = Onset(wanted, "opus"), 0, 0
    for packet in packets(recordings["webm"]):
        if samples := onset.spare(packet):
            spared += samples
            continue
        for frame in packet.decode():
            heard += frame.samples
            assert list(onset.convert(frame)) == [] or (spared + heard) / OPUS_RATE >= wanted / RATE
    assert heard / OPUS_RATE == pytest.approx(HEAD + PREROLL + 4, abs=0.2)
    assert (heard + spared) / OPUS_RATE == pytest.approx(SECONDS, abs=0.1)
