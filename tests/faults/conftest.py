"""Recordings to be lost, and a service to lose them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests import media
from tests.faults.checker import check_completed
from tests.faults.support import Service, running


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


@pytest.fixture(scope="package")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service as fast as it can be, left whole by whoever hurts it; who wants another has one of the same name."""
    async with running(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="module")
async def like(service: Service, recording: Recording) -> bytes:
    """The transcript of an unfaulted run."""
    me = await service.sign_up()
    job = await me.submit(recording.data)
    await me.ended(job)
    evidence = await service.evidence(me.tenant, job)
    check_completed(evidence, recording.samples)
    assert evidence.transcript is not None
    return evidence.transcript
