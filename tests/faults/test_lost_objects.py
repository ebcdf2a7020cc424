"""A power cut takes objects that were put without a barrier, whatever the record says: they are made again."""

from collections.abc import AsyncIterator, Callable

import pytest

from services.contracts import objects
from services.contracts.errors import Code
from services.contracts.events import Record
from services.contracts.jobs import State
from tests.faults.checker import check_completed, check_ended
from tests.faults.conftest import Recording
from tests.faults.support import Service, Tenant, running, until

LAST = 2
"""Number of the recording's last part, which is not done when the power goes."""
Lost = Callable[[frozenset[str]], list[str]]

LOSSES: dict[str, Lost] = {
    "the samples of a part": lambda names: [name for name in names if name.startswith(f"parts/{LAST:05d}-")],
    "all samples": lambda names: [name for name in names if name.endswith(".pcm")],
    "a part": lambda names: [f"parts/{LAST:05d}.json"],
    "two parts and their samples": lambda names: [
        name for name in names if name.startswith(("parts/00001", "parts/00002"))
    ],
    "the seal": lambda names: ["plan.json"],
    "the seal and all samples": lambda names: ["plan.json", *(name for name in names if name.endswith(".pcm"))],
    "the words of a part that is done": lambda names: ["words/00000.json"],
}

QUICKLY = ("two parts and their samples", "the seal and all samples", "the words of a part that is done")
"""The losses of which the others are a part, for the short suite."""


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service whose engine takes a second or more for a part."""
    async with running(tmp_path_factory.mktemp("service"), {"transcriber": {"DESIFRE_DIGEST_SPEED": "12"}}) as service:
        yield service


async def half_done(service: Service, me: Tenant, job: str) -> bool:
    """Whether the job is sealed and its first part done; its last one may be, too."""
    record: Record | None = await service.records.get(me.tenant, job)
    return record is not None and record.sealed and bool(record.bits & 1)


async def last_is_done(service: Service, me: Tenant, job: str) -> bool:
    """Whether there is nothing left to do in the job."""
    record: Record | None = await service.records.get(me.tenant, job)
    return record is not None and bool(record.bits >> LAST & 1)


async def stopped_half_done(service: Service, recording: Recording) -> tuple[Tenant, str]:
    """A job in the middle, with nobody at work on it: another one where it was over before that was seen."""
    transcriber = service.stack.process("transcriber")
    while True:
        me = await service.sign_up()
        job = await me.submit(recording.data)
        await until(lambda me=me, job=job: half_done(service, me, job), "it never got half done")  # type: ignore[misc]
        await transcriber.stop()
        if not await last_is_done(service, me, job):
            return me, job
        transcriber.start()
        await transcriber.wait_ready()


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=[] if loss in QUICKLY else [pytest.mark.long]) for loss in LOSSES]
)
async def test_what_a_power_cut_takes_is_made_again(
    service: Service, recording: Recording, like: bytes, loss: str
) -> None:
    """The job completes with the unfaulted run's bytes, and its account of the seconds is right."""
    me, job = await stopped_half_done(service, recording)
    lost = LOSSES[loss](await service.stored(me.tenant, job))
    assert lost
    await service.blobs.delete(objects.prefix(me.tenant, job) + name for name in lost)
    service.stack.process("transcriber").start()
    view = await me.ended(job)
    assert view["state"] == State.COMPLETED, view["failure"]
    check_completed(await service.evidence(me.tenant, job), recording.samples, like)


@pytest.mark.long
async def test_damaged_samples_are_made_again(service: Service, recording: Recording, like: bytes) -> None:
    """Samples that are not those of the part's sum are never heard."""
    me, job = await stopped_half_done(service, recording)
    for name in await service.stored(me.tenant, job):
        if name.endswith(".pcm"):
            await service.blobs.put(objects.prefix(me.tenant, job) + name, bytes(32_000))
    service.stack.process("transcriber").start()
    view = await me.ended(job)
    assert view["state"] == State.COMPLETED, view["failure"]
    check_completed(await service.evidence(me.tenant, job), recording.samples, like)


async def test_a_recording_that_is_gone_fails_its_job(service: Service, recording: Recording) -> None:
    """Without its source a job cannot be prepared: it fails at once and says so, instead of being tried for ever."""
    await service.stack.process("transcriber").stop()
    me = await service.sign_up()
    job = await me.submit(recording.data)
    await service.blobs.delete([objects.source(me.tenant, job)])
    service.stack.process("transcriber").start()
    view = await me.ended(job)
    assert (view["state"], view["failure"]["code"]) == (State.FAILED, Code.INTERNAL)
    check_ended(await service.evidence(me.tenant, job))
