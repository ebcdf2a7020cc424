"""Settlement: the ledger follows the records of the jobs, by a durable consumer that misses none."""

from sqlalchemy.exc import SQLAlchemyError

from services.contracts import subjects
from services.contracts.events import Record
from services.contracts.jobs import State
from services.keys.ledger import Ledger
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.states import StateEvents


def settler(bus: Bus, ledger: Ledger) -> StateEvents:
    """One event at a time. Several processes may share the consumer: settling is idempotent by job."""

    async def settle(record: Record) -> None:
        if not record.state.terminal and (record.parts or record.state == State.PREPARING):
            return  # counted by the events before; a short job's dozen events must not be a dozen transactions
        try:
            await ledger.settle(record)
        except SQLAlchemyError as error:
            raise Unavailable("database") from error

    return StateEvents(bus, subjects.USAGE_CONSUMER, settle)
