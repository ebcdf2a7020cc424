"""Decoding in tests: a file from bytes, and everything the sandbox makes of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from services.transcriber.prepare.media import Block, MediaInfo
from services.transcriber.prepare.sandbox import Sandbox
from tests.media import RATE, Samples


@dataclass(frozen=True)
class Decoded:
    """All of a recording."""

    samples: Samples
    speech: tuple[float, ...]
    info: MediaInfo
    blocks: list[Block]

    @property
    def seconds(self) -> float:
        return self.samples.size / RATE


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    """A nameless file that holds `data`."""
    fd = os.memfd_create("test")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


async def decode(sandbox: Sandbox, data: bytes) -> Decoded:
    """Raises MediaError and DecoderDied as the sandbox does."""
    with opened(data) as fd:
        async with sandbox.decode(fd) as recording:
            blocks = [block async for block in recording]
        pcm = b"".join(block.pcm for block in blocks)
        speech = tuple(p for block in blocks for p in block.speech)
        return Decoded(np.frombuffer(pcm, np.int16), speech, recording.info, blocks)


def likeness(one: Samples, other: Samples, lag: int = RATE // 20) -> float:
    """The correlation of two recordings of the same, at the best shift of up to `lag` samples."""
    size = min(one.size, other.size) - 2 * lag
    a = one[lag : lag + size].astype(np.float64)
    shifts = (other[lag + k : lag + k + size].astype(np.float64) for k in range(-lag, lag, 2))
    return max(float(np.corrcoef(a, b)[0, 1]) for b in shifts)
