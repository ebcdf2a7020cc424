"""Who goes first, on the whole service: nobody waits for another's recording. Orders are asserted, never times."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import dropwhile, takewhile

import pytest

from services.contracts.events import Record, SegmentsEvent
from tests.faults.conftest import Recording, record
from tests.faults.support import Event, Service, Tenant, running, until

IN_HAND = 4
"""Parts that may be in hand: two on the engine, one ahead, one just done."""


@pytest.fixture(scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service whose engine takes about a second for a part."""
    async with running(tmp_path_factory.mktemp("fair"), {"transcriber": {"DESIFRE_DIGEST_SPEED": "25"}}) as service:
        yield service


@pytest.fixture(scope="module")
def long() -> Recording:
    """A recording of more than twenty parts: some are left, though the machine is busy elsewhere for seconds."""
    return record(600)


async def begun(service: Service, me: Tenant, job: str) -> bool:
    """Whether a part of the job is done."""
    found = await service.records.get(me.tenant, job)
    return found is not None and found.bits > 0


def known(events: Sequence[Event], job: str) -> list[Event]:
    """What happened from the moment on when the first part of this job was on the bus."""
    return list(dropwhile(lambda event: event.job != job or not getattr(event, "parts", 0), events))


def ends(event: Event) -> bool:
    """Whether this is the end of a job."""
    return isinstance(event, Record) and event.state.terminal


def starts(events: Sequence[Event], job: str) -> set[str]:
    """The parts of this job that were begun, as these events tell."""
    records = [event for event in events if isinstance(event, Record) and event.job == job]
    return {name for record in records for name in record.counters.starts if name.startswith("part:")}


def seconds_told(events: Sequence[Event], job: str) -> float:
    """Seconds of this job's parts among these events."""
    return sum(event.end - event.start for event in events if isinstance(event, SegmentsEvent) and event.job == job)


async def test_a_clip_does_not_wait_for_anothers_long_recording(service: Service, long: Recording) -> None:
    """A clip sent into the middle of another's recording goes before its next part, and is done before it."""
    patient, hasty = await service.sign_up(), await service.sign_up()
    lecture = await patient.submit(long.data)
    await until(lambda: begun(service, patient, lecture), "the long recording never began")
    clip = await hasty.submit(record(5).data)
    await asyncio.gather(patient.ended(lecture), hasty.ended(clip))
    await service.evidence(patient.tenant, lecture)
    events = await service.events()
    since = known(events, clip)
    waited = list(takewhile(lambda event: not starts([event], clip), since))
    overtook = starts(waited, lecture) - starts(events[: len(events) - len(since)], lecture)
    assert len(overtook) <= 2, "parts of another were begun while the clip waited"
    after = list(dropwhile(lambda event: not (event.job == clip and ends(event)), events))
    left = [event for event in after if isinstance(event, SegmentsEvent) and event.job == lecture]
    assert len(left) >= 3, "the clip was not done in the middle of the long recording"


async def test_two_long_recordings_share_the_engine(service: Service, long: Recording) -> None:
    """From the moment when two tenants have work both get the same seconds of audio, but for the parts in hand."""
    first, second = await service.sign_up(), await service.sign_up()
    earlier = await first.submit(long.data)
    await until(lambda: begun(service, first, earlier), "the first recording never began")
    later = await second.submit(long.data)
    await asyncio.gather(first.ended(earlier), second.ended(later))
    await service.evidence(first.tenant, earlier)
    since = known(await service.events(), later)
    parts = [event for event in since if isinstance(event, SegmentsEvent)]
    last = max(n for n, event in enumerate(parts) if event.job == earlier)
    both = parts[: last + 1]
    assert len(both) >= 8, "they were not long enough beside each other"
    assert abs(seconds_told(both, earlier) - seconds_told(both, later)) <= IN_HAND * 30
