"""Recordings to be lost, and a service to lose them."""

from dataclasses import dataclass

import pytest

from tests import media


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording with its samples, 16 kHz mono."""

    samples: media.Samples
    data: bytes

    @property
    def seconds(self) -> float:
        return self.samples.size / media.RATE


def record(seconds: float) -> Recording:
    """A voice with pauses, as a WAV file. With this seed Silero hears nearly all of the voice."""
    samples = media.talk(seconds, seed=3)
    return Recording(samples, media.encode(samples, "wav"))


@pytest.fixture(scope="session")
def recording() -> Recording:
    """One minute: three parts with the settings of these tests."""
    return record(60)
