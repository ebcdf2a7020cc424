"""What is sent in place of a recording is told from recordings."""

from collections.abc import AsyncIterator

import pytest

from services.contracts.errors import Problem
from services.ingest.http.mistakes import no_address, no_fields

RECORDINGS = [b"RIFF\x24\x80\0\0WAVEfmt ", b"OggS\0\x02", b"fLaC\0\0\0\x22", b"ID3\x03\0", b"\xff\xfb\x90d", b"#!AMR\n"]
RECORDINGS += [b"RIFF=\x80\0\0WAVEfmt "]


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """A body that comes in two pieces."""
    yield data
    yield b"more\xff"


async def passed(found: AsyncIterator[bytes]) -> bytes:
    """All that came through."""
    return b"".join([data async for data in found])


@pytest.mark.parametrize(
    "text",
    [b"file:///etc/passwd", b"https://a.example/b.mp3", b"@talk.wav", b"talk.wav", b"/home/me/a b.m4a", b"C:\\a.wav"],
)
async def test_an_address_is_no_recording(text: bytes) -> None:
    """An address, a path or a name in the field of the file is told by what it is."""
    with pytest.raises(Problem) as caught:
        await passed(no_address(pieces(text), None))
    assert "Nothing is fetched" in str(caught.value.detail)


@pytest.mark.parametrize("start", RECORDINGS)
async def test_recordings_pass(start: bytes) -> None:
    """The beginnings of recordings are no addresses and no forms, and nothing of them is lost."""
    assert await passed(no_address(pieces(start), None)) == start + b"more\xff"
    assert await passed(no_fields(pieces(start), "application/x-www-form-urlencoded")) == start + b"more\xff"


async def test_a_form_for_texts_is_no_recording() -> None:
    """The fields of a form without files are told from a body that curl sends under the same type."""
    with pytest.raises(Problem) as caught:
        await passed(no_fields(pieces(b"file=abc&model=base"), "application/x-www-form-urlencoded"))
    assert "multipart/form-data" in str(caught.value.detail)
