"""Every container and codec that people have becomes 16 kHz mono, whole, and with its voice found."""

import io
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from services.contracts.errors import Code
from services.transcriber.prepare.media import BLOCK, FRAME, Limits, MediaError
from services.transcriber.prepare.sandbox import Sandbox
from tests import media
from tests.decoding import decode, likeness, opened


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with the limits of production."""
    sandbox = Sandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.close()


@pytest.fixture(scope="module")
def voice() -> media.Samples:
    """Seven seconds of a voice: one block and a bit."""
    return media.speech(7.013)


@pytest.mark.parametrize("name", media.FORMATS)
async def test_a_format_is_read(sandbox: Sandbox, voice: media.Samples, name: str) -> None:
    """What was encoded comes out again: its length, its sound and, where nothing was lost, every sample."""
    wanted = media.FORMATS[name]
    decoded = await decode(sandbox, media.encode(voice, name))
    assert abs(decoded.samples.size - voice.size) <= wanted.tolerance * media.RATE
    assert likeness(voice, decoded.samples) > (0.85 if "amr" in name else 0.98)
    if wanted.lossless:
        assert (decoded.samples == voice).all()
    assert not decoded.info.truncated
    assert decoded.info.sample_rate == wanted.rate
    assert decoded.info.channels == (2 if wanted.layout == "stereo" else 1)
    assert decoded.info.decoded_samples == decoded.samples.size
    if decoded.info.container_seconds is not None:
        assert decoded.info.container_seconds == pytest.approx(decoded.seconds, abs=0.1)


@pytest.mark.parametrize("name", ["wav", "wav-float", "rf64", "mp3", "aac", "flac", "webm", "mkv-video", "amr", "aiff"])
async def test_a_file_that_breaks_off_says_so(sandbox: Sandbox, voice: media.Samples, name: str) -> None:
    """The half that is there is decoded, and the result says that the file is truncated."""
    whole = media.encode(voice, name)
    decoded = await decode(sandbox, whole[: len(whole) // 2])
    assert decoded.info.truncated
    assert 2 < decoded.seconds < 6


async def test_an_mp4_that_breaks_off(sandbox: Sandbox, voice: media.Samples) -> None:
    """With its index in front an MP4 gives what is there; with the index lost it is no audio."""
    m4a = media.FORMATS["m4a"]
    streamable = media.mux(voice, m4a, {"movflags": "faststart"})
    decoded = await decode(sandbox, streamable[: len(streamable) // 2])
    assert decoded.info.truncated
    whole = media.encode(voice, "m4a")
    with pytest.raises(MediaError) as caught:
        await decode(sandbox, whole[: len(whole) // 2])
    assert caught.value.code == Code.NOT_AUDIO


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF])
async def test_a_wav_of_unknown_length_is_whole(sandbox: Sandbox, voice: media.Samples, size: int) -> None:
    """Programs that stream a WAV write a length they do not know: that is not a truncated file."""
    wav = bytearray(media.encode(voice, "wav"))
    at = wav.index(b"data") + 4
    wav[4:8] = wav[at : at + 4] = struct.pack("<I", size)
    decoded = await decode(sandbox, bytes(wav))
    assert decoded.samples.size == pytest.approx(voice.size, abs=100)
    assert not decoded.info.truncated
    assert decoded.info.container_seconds is None


async def test_blocks_are_whole_frames_with_their_probabilities(sandbox: Sandbox, voice: media.Samples) -> None:
    """All blocks but the last hold the same number of samples, and each 512 samples have a probability."""
    decoded = await decode(sandbox, media.encode(voice, "mp3"))
    sizes = [len(block.pcm) // 2 for block in decoded.blocks]
    assert set(sizes[:-1]) == {BLOCK}
    assert [len(block.speech) for block in decoded.blocks] == [-(-size // FRAME) for size in sizes]
    assert all(0 <= p <= 1 for p in decoded.speech)


async def test_probabilities_equal_those_of_the_library(sandbox: Sandbox) -> None:
    """Voice found block by block is what faster-whisper finds in the whole recording at once."""
    samples = np.concatenate([media.talk(14), media.noise(2), media.speech(4, seed=5)])
    decoded = await decode(sandbox, media.encode(samples, "wav"))
    wave = np.pad(samples, (0, -samples.size % FRAME)).astype(np.float32) / 32768
    whole = get_vad_model()(wave)
    assert len(decoded.speech) == whole.size
    assert np.abs(np.array(decoded.speech[:-1]) - whole[:-1]).max() < 1e-4  # theirs blanks the end of the last frame
    assert 0.3 < np.mean(whole > 0.5) < 0.95


@pytest.mark.parametrize("samples", [media.silence(6), media.noise(6), media.tone(6)], ids=["silence", "noise", "tone"])
async def test_what_is_no_voice_is_not_taken_for_one(sandbox: Sandbox, samples: media.Samples) -> None:
    """Silence, noise and a tone have a low probability of voice throughout."""
    decoded = await decode(sandbox, media.encode(samples, "flac"))
    assert max(decoded.speech) < 0.5


async def test_channels_are_mixed_without_clipping(sandbox: Sandbox) -> None:
    """A loud recording with the same sound on both channels comes out as loud as it was, and no louder."""
    loud = media.tone(2, level=0.95)
    out = io.BytesIO()
    with av.open(out, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=media.RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.repeat(loud, 2)[None], format="s16", layout="stereo")
        frame.sample_rate = media.RATE
        container.mux(stream.encode(frame))
    decoded = await decode(sandbox, out.getvalue())
    assert np.abs(decoded.samples.astype(int) - loud).max() <= 1


async def test_a_file_whose_format_changes_half_way(sandbox: Sandbox, voice: media.Samples) -> None:
    """Two MP3s of different rates and channels, one behind the other, are both heard."""
    wide, narrow = media.FORMATS["mp3"], media.Format("", "mp3", "libmp3lame", 16_000, "mono", "s16p")
    decoded = await decode(sandbox, media.mux(voice, wide, {"write_xing": "0"}) + media.mux(voice, narrow))
    assert decoded.seconds == pytest.approx(2 * voice.size / media.RATE, abs=0.3)
    assert likeness(voice, decoded.samples[-voice.size - 1600 : -1600], media.RATE // 5) > 0.9


async def test_numbers_that_are_none_become_silence(sandbox: Sandbox) -> None:
    """NaN and infinity in a float WAV leave silence, not clicks, and the rest as it was."""
    wav = bytearray(media.encode(media.tone(2, level=0.2), "wav-float"))
    start = wav.index(b"data") + 8 + 4 * 48_000 // 2
    wav[start : start + 4 * 4_800] = struct.pack("<4f", float("nan"), float("inf"), float("-inf"), 3e38) * 1_200
    decoded = await decode(sandbox, bytes(wav))
    assert decoded.seconds == pytest.approx(2, abs=0.01)
    assert np.abs(decoded.samples[:7_900]).max() <= 0.21 * 32768
    assert np.abs(decoded.samples[8_100:9_500]).max() == 0
    assert np.abs(decoded.samples[9_700:]).max() <= 0.21 * 32768


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (media.picture_only(), Code.NO_TRACK),
        (media.encode(media.silence(0), "wav"), Code.NO_SOUND),
        (b"", Code.NOT_AUDIO),
        (b"RIFF\x24\0\0\0WAVE", Code.NOT_AUDIO),
        (b"This is the text of a letter, and not its sound.\n" * 100, Code.NOT_AUDIO),
        (np.random.default_rng(1).bytes(300_000), Code.NOT_AUDIO),
    ],
    ids=["video without sound", "no samples", "nothing", "a header only", "text", "random bytes"],
)
async def test_what_is_no_recording_is_named(sandbox: Sandbox, data: bytes, code: Code) -> None:
    """Files without sound are refused with the code that says what is missing, and with a sentence."""
    with pytest.raises(MediaError) as caught:
        await decode(sandbox, data)
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


async def test_one_sample_is_a_recording(sandbox: Sandbox) -> None:
    """The shortest recording there is decodes."""
    decoded = await decode(sandbox, media.encode(np.array([1000], np.int16), "wav"))
    assert decoded.samples.tolist() == [1000]
    assert len(decoded.speech) == 1


async def test_several_recordings_at_a_time(sandbox: Sandbox, voice: media.Samples) -> None:
    """Decoders run beside one another without mixing what they hear."""
    one, other = media.encode(voice, "wav"), media.encode(voice[::-1].copy(), "wav")
    with opened(one) as first, opened(other) as second:
        async with sandbox.decode(first) as a, sandbox.decode(second) as b:
            heard = [(await anext(a)).pcm, (await anext(b)).pcm]
    assert heard == [voice[:BLOCK].tobytes(), voice[::-1][:BLOCK].tobytes()]


async def test_the_same_descriptor_can_be_read_meanwhile(sandbox: Sandbox, voice: media.Samples) -> None:
    """The decoder does not move the caller's place in the file, nor does it depend on it."""
    with opened(media.encode(voice, "wav")) as fd:
        async with sandbox.decode(fd) as first, sandbox.decode(fd) as second:
            assert (await anext(first)).pcm == (await anext(second)).pcm


@pytest.mark.parametrize("minutes", [5, pytest.param(60, marks=pytest.mark.long)])
async def test_memory_does_not_grow_with_the_length(sandbox: Sandbox, minutes: int) -> None:
    """Many minutes take the decoder no more memory than one does."""
    with opened(media.encode(media.silence(minutes * 60), "flac")) as fd:
        async with sandbox.decode(fd) as recording:
            sizes = [own_memory(recording.pid) async for _ in recording]
    assert len(sizes) > 10 * minutes
    assert max(sizes) - max(sizes[5:15]) < 8 << 20
    assert max(sizes) < 100 << 20


def own_memory(pid: int) -> int:
    """Bytes that a process shares with nobody, proc(5); 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


async def test_a_recording_beyond_the_limit_is_refused() -> None:
    """The limit is on what is decoded; a truthful header is believed at once, a lying one is not."""
    sandbox = Sandbox(Limits(max_seconds=6))
    try:
        for name in ("wav", "webm", "aac"):
            with pytest.raises(MediaError) as caught:
                await decode(sandbox, media.encode(media.tone(7), name))
            assert caught.value.code == Code.TOO_LONG
        wav = bytearray(media.encode(media.tone(3), "wav-float"))
        at = wav.index(b"fact") + 8
        wav[at : at + 4] = struct.pack("<I", 48_000 * 3_600)
        assert (await decode(sandbox, bytes(wav))).seconds == pytest.approx(3, abs=0.01)
    finally:
        await sandbox.close()
