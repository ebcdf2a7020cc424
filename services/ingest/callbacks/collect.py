"""From the ends of jobs to callbacks: every job that has ended and is to call somebody becomes one unit of work."""

from yarl import URL

from services.contracts import subjects
from services.contracts.callbacks import CallbackWork
from services.contracts.events import Record
from services.contracts.jobs import State
from services.ingest.callbacks.log import Deliveries
from services.ingest.callbacks.policy import endpoint
from services.runtime.bus import Bus
from services.runtime.records import Records
from services.runtime.states import StateEvents


def collector(bus: Bus, records: Records, log: Deliveries, lease: float) -> StateEvents:
    """Repeats are harmless: a unit is on the bus once, and its log tells what has been told already."""

    async def take(record: Record) -> None:
        if not record.callback or not record.state.terminal:
            return
        if record.state == State.ERASED:
            await log.forget(record.tenant, record.job)
            return
        manifest = await records.manifest(record.tenant, record.job)
        if manifest is None or manifest.callback_url is None:
            return  # erased meanwhile
        work = CallbackWork(job=record.job, tenant=record.tenant, endpoint=endpoint(URL(manifest.callback_url)))
        await bus.offer(subjects.callback(record.lane, record.tenant, record.job), work, record.traceparent)

    return StateEvents(bus, subjects.CALLBACKS_CONSUMER, take, lease)
