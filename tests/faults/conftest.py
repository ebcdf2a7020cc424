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


def record(seconds: float, seed: int = 1) -> Recording:
    """A voice with pauses, as a WAV file."""
    samples = media.talk(seconds, seed)
    return Recording(samples, media.encode(samples, "wav"))


@pytest.fixture(scope="session")
def recording() -> Recording:
    """One minute: four parts with the settings of these tests. Silero hears all of this voice."""
    return record(60)
