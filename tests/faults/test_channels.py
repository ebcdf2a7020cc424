"""A recording in two channels whose prepare is killed in the middle: both channels whole, and the bytes the same."""

import pytest

from services.contracts import objects
from tests import media
from tests.faults.support import Service

POINTS = ("put:pcm:after@2", "put:part:before@3")
"""In the middle of the prepare: some parts of both channels are stored, others are not."""


@pytest.mark.long
async def test_a_killed_prepare_of_two_channels_changes_nothing(service: Service) -> None:
    """The transcript of both channels has the unfaulted run's bytes, but for the job's id."""
    me = await service.sign_up()
    data = media.stereo(media.talk(30.0, seed=3), media.talk(30.0, seed=5))

    async def transcript(job: str) -> bytes:
        assert (await me.ended(job))["state"] == "completed"
        found = await service.blobs.get(objects.transcript(me.tenant, job))
        assert found is not None
        return found.replace(job.encode(), b"job")

    like = await transcript(await me.submit(data, channels="separate"))
    assert b'"channels":[' in like
    for point in POINTS:
        run = service.arm("transcriber", point)
        job = await me.submit(data, channels="separate")
        await service.died("transcriber", run)
        assert await transcript(job) == like
