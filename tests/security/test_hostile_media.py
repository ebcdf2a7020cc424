"""Files made to harm: nothing is fetched, no other file is read, limits hold, and the next recording decodes."""

import asyncio
import io
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from services.contracts.errors import Code
from services.transcriber.prepare.media import DecoderDied, Limits, MediaError
from services.transcriber.prepare.sandbox import Sandbox
from tests import media
from tests.decoding import Decoded, decode


class Canary:
    """A listener that counts who comes, and a recording that nobody may hear."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self.file = file
        self.visits = 0


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Canary]:
    """A canary whose recording lies in `folder`."""
    file = folder / "other.wav"
    file.write_bytes(media.encode(media.tone(2, level=0.9), "wav"))
    canary = Canary(0, file)

    async def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.visits += 1
        writer.close()

    async with await asyncio.start_server(visited, "127.0.0.1", 0) as server:
        canary.port = server.sockets[0].getsockname()[1]
        yield canary


@pytest.fixture(scope="module")
async def canary(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Canary]:
    """Watches over all tests of this module: not one connection."""
    async with watching(tmp_path_factory.mktemp("canary")) as canary:
        yield canary
        assert canary.visits == 0


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with the limits of production."""
    async with started(Limits()) as sandbox:
        yield sandbox


@asynccontextmanager
async def started(limits: Limits) -> AsyncIterator[Sandbox]:
    """A sandbox of other limits."""
    sandbox = Sandbox(limits)
    try:
        await sandbox.start()
        yield sandbox
    finally:
        await sandbox.close()


async def attempt(sandbox: Sandbox, data: bytes) -> Decoded | Code:
    """What was heard, or why nothing was."""
    try:
        return await decode(sandbox, data)
    except MediaError as error:
        return error.code


def playlists(canary: Canary) -> dict[str, bytes]:
    """Texts that make FFmpeg open something else, when it is left to recognise them."""
    url, file = f"http://127.0.0.1:{canary.port}/a.ts", canary.file
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"
    texts = {
        "hls": hls,
        "hls-file": hls.replace(url, str(file)),
        "hls-key": f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:9,\n{url}\n',
        "hls-master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{file}'\n",
        "ffconcat-relative": "ffconcat version 1.0\nfile 'other.wav'\n",
        "ffconcat-url": f"ffconcat version 1.0\nfile '{url}'\n",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {canary.port} RTP/AVP 0\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
        "pls": f"[playlist]\nFile1={url}\nNumberOfEntries=1\n",
        "ffmetadata": ";FFMETADATA1\ntitle=x\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>',
        "imf": f'<AssetMap xmlns="http://www.smpte-ra.org/schemas/429-9/2007/AM"><Path>{url}</Path></AssetMap>',
        "sami": f"<SAMI><BODY><SYNC start=0><P>{url}</SAMI>",
    }
    return {name: text.encode() for name, text in texts.items()}


async def test_the_canary_sings(tmp_path: Path) -> None:
    """FFmpeg left to itself does fetch what a playlist names: the silence of the canary elsewhere means something."""
    async with watching(tmp_path) as canary:
        playlist = io.BytesIO(playlists(canary)["hls"])
        playlist.name = "list.m3u8"
        with pytest.raises(av.FFmpegError):
            await asyncio.to_thread(av.open, playlist, timeout=60)
        assert canary.visits > 0


DISGUISES = {
    "plain": lambda text: text,
    "behind an ID3 tag": lambda text: b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + text,
    "behind a WAV header": lambda text: media.encode(media.silence(0), "wav") + text,
    "behind an MP3": lambda text: media.encode(media.tone(0.2), "mp3") + text,
    "after a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "as an Ogg page": lambda text: b"OggS\0\x02" + bytes(20) + b"\x01\x1e" + text,
}


@pytest.mark.parametrize("disguise", DISGUISES)
async def test_playlists_open_nothing(sandbox: Sandbox, canary: Canary, disguise: str) -> None:
    """A text that names addresses or files is no audio, however it begins: nothing is fetched and nothing heard."""
    for name, text in playlists(canary).items():
        heard = await attempt(sandbox, DISGUISES[disguise](text))
        if isinstance(heard, Decoded):  # the few samples it came with
            assert heard.seconds < 0.5, name
        else:
            assert heard in (Code.NOT_AUDIO, Code.NO_SOUND), name
    assert canary.visits == 0


@pytest.mark.parametrize("protocol", ["http", "tcp", "file", "concat", "subfile", "data", "fd"])
async def test_a_track_elsewhere_is_not_opened(sandbox: Sandbox, canary: Canary, protocol: str) -> None:
    """A QuickTime file whose track lies at another address or in another file opens neither."""
    place = f"{protocol}:{canary.file}" if protocol != "http" else f"http://127.0.0.1:{canary.port}/x.wav"
    movie = external_track(media.encode(media.tone(1), "mov-video"), place.encode())
    heard = await attempt(sandbox, movie)
    if isinstance(heard, Decoded):
        assert np.abs(heard.samples).max() < 0.5 * 32768  # the canary is louder
    else:
        assert heard in (Code.NOT_AUDIO, Code.NO_SOUND, Code.NO_TRACK)
    assert canary.visits == 0


def external_track(movie: bytes, place: bytes) -> bytes:
    """Every data reference of a movie, turned from "in this file" to an address. Sizes of all boxes follow."""

    def rebuilt(data: bytes) -> bytes:
        out, at = b"", 0
        while at + 8 <= len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            body = data[at + 8 : at + size]
            if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
                body = rebuilt(body)
            elif kind == b"dref":
                entry = struct.pack(">I4sI", 12 + len(place) + 1, b"url ", 0) + place + b"\0"
                body = body[:4] + struct.pack(">I", 1) + entry
            out += struct.pack(">I4s", 8 + len(body), kind) + body
            at += max(size, 8)
        return out

    return rebuilt(movie)


@pytest.mark.parametrize(
    ("container", "codec", "sample_format"),
    [
        ("matroska", "ac3", "fltp"),
        ("matroska", "wavpack", "s16p"),
        ("wav", "adpcm_ima_wav", "s16p"),
        ("ogg", "speex", ""),
    ],
)
async def test_other_codecs_are_refused(sandbox: Sandbox, container: str, codec: str, sample_format: str) -> None:
    """A codec that is not on the list does not run, though its container is read."""
    if codec == "speex":
        data = b"OggS\0\x02" + bytes(20) + b"\x01\x50" + b"Speex   1.2".ljust(80, b"\0")
    else:
        data = media.mux(media.tone(1), media.Format("", container, codec, 44_100, "mono", sample_format))
    assert await attempt(sandbox, data) == Code.NOT_AUDIO


def wav(rate: int, channels: int, size: int, bits: int = 16) -> bytes:
    """A WAV of silence whose header says what it likes."""
    frame = max(1, channels * bits // 8) & 0xFFFF
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * frame & 0xFFFF_FFFF, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + bytes(size)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    ("rate", "channels"),
    [(0, 1), (1, 1), (3_999, 1), (192_001, 1), (4_000_000_000, 1), (16_000, 0), (16_000, 9), (16_000, 255)],
)
async def test_forged_headers_are_refused(sandbox: Sandbox, rate: int, channels: int) -> None:
    """Rates outside 4 to 192 kHz and more than eight channels are refused, since few bytes would become hours."""
    assert await attempt(sandbox, wav(rate, channels, 4_000)) in (Code.MEDIA_LIMITS, Code.NOT_AUDIO)


async def test_a_flac_at_655_kilohertz_is_refused(sandbox: Sandbox) -> None:
    """A FLAC that claims the highest rate its header can hold, with eight channels, is refused at once."""
    forged = media.mux(media.silence(5), media.Format("", "flac", "flac", 655_350, "7.1", "s16"))
    assert len(forged) < 100_000
    assert await attempt(sandbox, forged) == Code.MEDIA_LIMITS


async def test_a_header_of_four_gigabytes_gives_what_is_there(sandbox: Sandbox) -> None:
    """A length in the header that the file does not have costs nothing."""
    data = bytearray(media.encode(media.tone(2), "wav"))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFF_FFF0)
    assert (await decode(sandbox, bytes(data))).seconds == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("name", ["flac", "ogg-opus"])
async def test_a_bomb_is_stopped_while_it_bursts(name: str) -> None:
    """Kilobytes that hold more audio than is allowed are given up at the limit, in little memory."""
    bomb = media.encode(media.silence(70), name)
    async with started(Limits(max_seconds=50, memory_bytes=512 << 20)) as sandbox:
        assert await attempt(sandbox, bomb) == Code.TOO_LONG


async def test_too_many_samples_in_all_channels_are_refused() -> None:
    """Samples are counted as they are in the file, before they become few."""
    async with started(Limits(native_samples=8 * 96_000)) as sandbox:
        loud = wav(96_000, 8, 96_000 * 16 * 2)
        assert await attempt(sandbox, loud) == Code.MEDIA_LIMITS


async def test_a_packet_beyond_the_memory_harms_nobody(sandbox: Sandbox) -> None:
    """A Matroska block that claims a gigabyte ends as a refusal or as a dead decoder, and the next file decodes."""
    data = bytearray(media.encode(media.tone(1), "webm"))
    cluster = data.index(b"\x1f\x43\xb6\x75")
    block = data.index(b"\xa3", cluster + 8)
    data[block + 1 : block + 9] = b"\x01" + (1 << 30).to_bytes(7, "big")
    with pytest.raises((MediaError, DecoderDied)):
        await decode(sandbox, bytes(data))
    assert (await decode(sandbox, media.encode(media.tone(1), "wav"))).seconds == 1


@pytest.mark.parametrize("files", [80, pytest.param(800, marks=pytest.mark.long)])
async def test_mutations_are_survived(sandbox: Sandbox, canary: Canary, files: int) -> None:
    """Damaged files decode, are refused or kill their own decoder; then a good one decodes."""
    random = np.random.default_rng(20_260)
    voice = media.speech(1.0)
    seeds = [media.encode(voice, name) for name in media.FORMATS]
    decoded = refused = deaths = 0
    for n in range(files):
        data = bytearray(seeds[n % len(seeds)])
        for _ in range(int(random.integers(1, 30))):
            # The beginning, where headers are, is hit as often as all the rest.
            reach = min(len(data), 400) if random.random() < 0.5 else len(data)
            data[int(random.integers(reach))] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, int(random.integers(256))]))
        if random.random() < 0.2:
            del data[int(random.integers(len(data))) :]
        try:
            heard = await attempt(sandbox, bytes(data))
        except DecoderDied:
            deaths += 1
            continue
        if isinstance(heard, Decoded):
            decoded += 1
            assert heard.seconds < 3600
        else:
            refused += 1
    assert decoded > files / 10
    assert refused > files / 10
    assert deaths <= files / 10  # none is known; each is one process, and the test goes on
    assert (await decode(sandbox, seeds[0])).seconds == 1
    assert canary.visits == 0
