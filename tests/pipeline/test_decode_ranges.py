"""A recording that lies in the store is decoded by ranges, and sounds as if it lay in a file."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.contracts.errors import Code
from services.runtime.jsapi import Unavailable
from services.transcriber.prepare.media import ASKED, MediaError, readings
from services.transcriber.prepare.ranges import Ranges
from services.transcriber.prepare.reading import Ranged
from services.transcriber.prepare.sandbox import Sandbox
from tests import media
from tests.decoding import decode


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with the limits of production."""
    sandbox = Sandbox()
    await sandbox.start()
    yield sandbox
    await sandbox.close()


class Shelf:
    """A recording somewhere else, and what was fetched of it."""

    def __init__(self, data: bytes, *, breaks_after: int = 1 << 30) -> None:
        self._data = data
        self._left = breaks_after
        self.fetched: list[int] = []

    async def fetch(self, offset: int, length: int) -> bytes:
        """A range of it. Raises `Unavailable` once it has broken."""
        if len(self.fetched) >= self._left:
            raise Unavailable("store")
        self.fetched.append(offset)
        return self._data[offset : offset + length]


@pytest.mark.parametrize(("name", "seconds"), [("wav", 80), ("m4a", 150), ("ogg-opus", 20), ("mkv-video", 20)])
async def test_ranges_are_heard_like_a_file(sandbox: Sandbox, name: str, seconds: float) -> None:
    """The same samples, the same voice and the same facts come out, also where the index lies at the end."""
    data = media.encode(media.noise(seconds), name)
    expected = await decode(sandbox, data)
    async with sandbox.decode(Ranges(Shelf(data).fetch, len(data))) as decoding:
        blocks = [block async for block in decoding]
    assert blocks == expected.blocks
    assert decoding.info == expected.info


async def test_every_piece_is_fetched_once(sandbox: Sandbox) -> None:
    """A recording that is read from its beginning to its end is fetched once, and the first sound needs one piece."""
    data = media.encode(media.noise(120), "wav")
    shelf = Shelf(data)
    async with sandbox.decode(Ranges(shelf.fetch, len(data))) as decoding:
        await anext(decoding)
        assert len(shelf.fetched) <= 2
        async for _ in decoding:
            pass
    assert shelf.fetched == list(range(0, len(data), ASKED))


async def test_what_is_no_audio_is_not_fetched(sandbox: Sandbox) -> None:
    """A gigabyte that begins like nothing known costs one piece."""
    shelf = Shelf(os.urandom(ASKED))
    with pytest.raises(MediaError) as caught:
        async with sandbox.decode(Ranges(shelf.fetch, 1 << 30)) as decoding:
            await anext(decoding)
    assert caught.value.code == Code.NOT_AUDIO
    assert shelf.fetched == [0]


async def test_a_store_that_goes_away_is_no_end_of_a_recording(sandbox: Sandbox) -> None:
    """Half a recording is never taken for all of it: the store's absence is told, and the decoder is gone."""
    data = media.encode(media.noise(120), "wav")
    async with sandbox.decode(Ranges(Shelf(data, breaks_after=2).fetch, len(data))) as decoding:
        with pytest.raises(Unavailable):
            _ = [block async for block in decoding]
    assert not hasattr(decoding, "info")


async def test_a_decoder_that_asks_for_too_much_is_ended() -> None:
    """Nobody can have a recording fetched for ever, nor what lies beside it."""
    ranges = Ranges(Shelf(bytes(3 * ASKED)).fetch, 3 * ASKED)
    for wish in (b"", (3 * ASKED).to_bytes(8, "little"), (1).to_bytes(8, "little")):
        with pytest.raises(ValueError, match="wish"):
            await ranges.answer(wish, 1.0)


def test_disorder_has_its_limit() -> None:
    """A file that is to be read in a great disorder is refused, with a reason, before the parent loses its patience."""
    size, wishes = 6 * ASKED, 0

    def say(_: bytes) -> None:
        nonlocal wishes
        wishes += 1

    with Path("/dev/zero").open("rb") as zeros:
        recording = Ranged(zeros.fileno(), say, size)
        for n in range(readings(size)):
            assert recording.read_at(10, n % 6 * ASKED) == bytes(10)
        with pytest.raises(MediaError) as caught:
            recording.read_at(10, readings(size) % 6 * ASKED)
    assert caught.value.code == Code.MEDIA_LIMITS
    assert wishes == readings(size)
