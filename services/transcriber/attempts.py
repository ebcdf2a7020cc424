"""How often work on a unit began and how often it killed its child: written before the work, judged before the next.

A decoder or an engine that dies on the same unit three times names it as poison; the third time it works alone, so
that a bystander is not blamed. A service that dies ten times while holding a unit gives it up as interrupted. A store
or a bus that is away counts for nothing.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.contracts.errors import Code
from services.contracts.events import Counters, Record
from services.contracts.jobs import Failure, State
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.patience import until_there
from services.runtime.records import JobGone, Records

PREPARE = "prepare"


def part_name(n: int) -> str:
    """The counter's name of a part."""
    return f"part:{n}"


def begun(record: Record, name: str, state: State) -> Record:
    """The record with one more start of this unit, in the state that it brings."""
    starts = record.counters.starts | {name: record.counters.starts.get(name, 0) + 1}
    timings = record.timings
    if state is State.PREPARING and timings.preparing is None:
        timings = timings.model_copy(update={"preparing": time.time()})
    if state is State.RUNNING and timings.started is None:
        timings = timings.model_copy(update={"started": time.time()})
    # A prepare that is repeated does not take a running job back.
    kept = record.state if record.state is State.RUNNING else state
    counters = Counters(starts=starts, crashes=record.counters.crashes)
    return record.model_copy(update={"counters": counters, "timings": timings, "state": kept})


def crashed(record: Record, name: str) -> Record:
    """The record with one more death of a child on this unit; that start was the child's fault, not the service's."""
    counters = Counters(
        starts=record.counters.starts | {name: max(0, record.counters.starts.get(name, 0) - 1)},
        crashes=record.counters.crashes | {name: record.counters.crashes.get(name, 0) + 1},
    )
    return record.model_copy(update={"counters": counters})


def not_counted(record: Record, name: str) -> Record:
    """The record with a start taken back: what stopped the work was nobody's fault of the unit's."""
    starts = record.counters.starts | {name: max(0, record.counters.starts.get(name, 0) - 1)}
    return record.model_copy(update={"counters": record.counters.model_copy(update={"starts": starts})})


@asynccontextmanager
async def uncounted_while_away(records: Records, tenant: str, job: str, name: str) -> AsyncIterator[None]:
    """Take back the start that was counted for this unit when the store, the bus or keys go away under the work.

    Waits until the record can be written again: before that nothing can be done for the unit anyway.
    """
    try:
        yield
    except (Unavailable, *AWAY):
        with suppress(JobGone):
            await until_there(lambda: records.change(tenant, job, lambda record: not_counted(record, name)))
        raise


def ended_well(record: Record, name: str) -> Record:
    """The record without this unit's counts, which say nothing any more."""
    counters = Counters(
        starts={key: count for key, count in record.counters.starts.items() if key != name},
        crashes={key: count for key, count in record.counters.crashes.items() if key != name},
    )
    return record.model_copy(update={"counters": counters})


def verdict(record: Record, name: str, *, max_crashes: int, max_starts: int) -> Failure | None:
    """Why this unit, whose new start is counted already, must not be worked on; or None."""
    if record.counters.crashes.get(name, 0) >= max_crashes:
        return Failure(code=Code.POISON, message="The decoder or the engine died on this recording again and again.")
    if record.counters.starts.get(name, 0) > max_starts:
        message = "The service was stopped again and again while it worked on this recording."
        return Failure(code=Code.INTERRUPTED, message=message, retryable=True)
    return None


def first(record: Record, name: str) -> bool:
    """Whether nobody has worked on this unit before: every start is counted before its work begins."""
    return record.counters.starts.get(name, 0) + record.counters.crashes.get(name, 0) == 1


def alone(record: Record, name: str, *, max_crashes: int) -> bool:
    """Whether this is the last try, which must have the child to itself."""
    return 0 < max_crashes - 1 <= record.counters.crashes.get(name, 0)
