"""The media reference names what the code does."""

from pathlib import Path

import pytest

from services.contracts.errors import Code
from services.transcriber.prepare.decode import CODECS
from services.transcriber.prepare.jail import lock_in
from services.transcriber.prepare.media import Limits
from services.transcriber.prepare.sandbox import FULL, LEAST
from services.transcriber.prepare.sniff import demuxer_for

PAGE = (Path(__file__).parents[2] / "docs" / "media.md").read_text()

MAGIC = {
    "wav": b"RIFF\0\0\0\0WAVE",
    "mov": b"\0\0\0\x18ftypM4A ",
    "matroska": b"\x1aE\xdf\xa3",
    "ogg": b"OggS",
    "flac": b"fLaC",
    "amr": b"#!AMR\n",
    "aiff": b"FORM\0\0\0\0AIFF",
    "caf": b"caff",
}
NAMES = {"pcm": "PCM", "mp3": "MP3", "mp3float": "MP3", "amrnb": "AMR", "amrwb": "AMR"}


@pytest.mark.parametrize("demuxer", MAGIC)
def test_each_container_is_on_the_page(demuxer: str) -> None:
    """What the first bytes are recognised by is what the page says."""
    assert demuxer_for(lambda size, at: MAGIC[demuxer][at : at + size]) == demuxer
    mark = {"matroska": "EBML"}.get(demuxer) or MAGIC[demuxer].strip(b"\0\x18\n").split(b"\0")[0].decode()[:4]
    assert mark in PAGE


def test_each_codec_is_on_the_page() -> None:
    """Every decoder that may run is named, by its family."""
    for codec in CODECS.split(","):
        family = codec.removeprefix("lib").removeprefix("opencore_").split("_")[0]
        assert NAMES.get(family, family).lower() in PAGE.lower(), codec


def test_each_limit_and_layer_is_on_the_page() -> None:
    """The numbers are the defaults of the code, and the layers are those that the sandbox reports."""
    limits = Limits()
    assert f"| audio, decoded | {limits.max_seconds / 3600:g} h |" in PAGE
    assert f"{limits.min_rate // 1000} to {limits.max_rate // 1000} kHz" in PAGE
    assert f"| channels | {limits.max_channels} |" in PAGE
    assert f"{limits.native_samples / 1e9:.1f} thousand million" in PAGE
    assert f"{limits.memory_bytes >> 30} GiB" in PAGE
    assert f"{limits.cpu_seconds:g} s and {limits.cpu_share:g} s for each second decoded" in PAGE
    assert f"| {limits.stall_seconds:g} s |" in PAGE
    for layer in FULL | LEAST | {"user"}:
        assert f"| `{layer}` |" in PAGE
        assert layer in str(lock_in.__doc__)
    for code in (Code.NOT_AUDIO, Code.NO_TRACK, Code.NO_SOUND, Code.TOO_LONG, Code.MEDIA_LIMITS):
        assert f"| `{code}` |" in PAGE
