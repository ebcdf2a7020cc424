"""Why is this job not done? The answer in sentences, for the operator: see `desifre why`.

It reads what everybody else reads (record, outcome, bus, engines' cards) and changes nothing. It shows no file name and
no word of a transcript.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.contracts import subjects
from services.contracts.events import EngineCard, Record
from services.contracts.jobs import Lane, State
from services.ingest.engines import Engines
from services.ingest.queue import Place, Queue
from services.runtime.bus import Bus
from services.runtime.records import Records


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found about a job that has a record."""

    record: Record
    ended: State | None
    """As the outcome in the store says, which the record may be behind."""
    queued: Collection[str]
    """Subjects of its messages on JOBS and PARTS, waiting or in hand."""
    in_line: int
    """Parts of its tenant in its lane that wait or are in hand."""
    live: bool
    """Whether it is a live session that goes on."""
    cards: Sequence[EngineCard]
    place: Place | None


def sentences(seen: Evidence) -> list[str]:
    """The job in a few lines: first what it is, then what it waits for and what helps."""
    record, timings = seen.record, seen.record.timings
    whose = f"Tenant {record.tenant}, key {record.key_id}, door {record.door}, lane {record.lane}"
    steps = {
        "admitted": timings.accepted,
        "prepared from": timings.preparing,
        "heard from": timings.started,
        "ended": timings.finished,
    }
    times = ", ".join(f"{step} {_at(moment)}" for step, moment in steps.items() if moment is not None)
    told = [
        f"{record.job} {'has' if record.state is State.FAILED else 'is'} {record.state}.",
        f"{whose}, model {record.model}, {record.size} bytes.",
        f"{times[0].upper()}{times[1:]}.",
    ]
    if record.parts:
        parts = f"{record.bits.bit_count()} of {record.parts} parts{'' if record.sealed else ' known so far'} are done"
        told.append(f"{parts}: {record.audio_done:.0f} of {record.audio:.0f} s of audio.")
    if record.state.terminal:
        return told + _failure(record)
    if seen.ended:
        return [*told, f"Its outcome is {seen.ended}: the reconciler brings the record up to it within a minute."]
    if record.lane == Lane.LIVE and not record.sealed:
        gone = "Its session is gone from the bus: the reconciler ends it within a minute."
        return [*told, "It is a live session and ends with it." if seen.live else gone]
    return told + _engines(seen) + _bus(seen) + _place(seen.place) + _counters(record)


def _failure(record: Record) -> list[str]:
    if record.failure is None:
        return []
    again = f'its owner does it again by POST /jobs with {{"source": "{record.job}"}}.'
    helps = f"That may help: {again}" if record.failure.retryable else "The same again will not help."
    return [f"{record.failure.code}: {record.failure.message}", f"{helps} See docs/errors.md."]


def _engines(seen: Evidence) -> list[str]:
    if not seen.cards:
        return ["No transcriber is there: `desifre status`, then `desifre logs transcriber`."]
    if not any(model.name == seen.record.model and model.available for card in seen.cards for model in card.models):
        return [f"No transcriber has the weights of {seen.record.model}: see docs/engine.md."]
    return []


def _bus(seen: Evidence) -> list[str]:
    record = seen.record
    if not seen.queued:
        still = "When it has stood still for a minute the reconciler puts it back; if not: `desifre logs ingest`."
        return [f"Nothing of it is on the bus, as between two steps. {still}"]
    if not all(subject.startswith("jobs.") for subject in seen.queued):
        return [f"Waiting on the bus or in hand: {len(seen.queued)} of its parts."]
    if record.state is not State.ACCEPTED:
        return ["It is being prepared."]
    if record.lane == Lane.BATCH:
        limit = "DESIFRE_WAITING_PARTS_PER_TENANT"
        return [f"It waits to be prepared, until fewer parts of its tenant wait than {limit}: {seen.in_line} do."]
    return ["It waits to be prepared."]


def _place(place: Place | None) -> list[str]:
    if place is None:
        return []
    start = f"it starts about {_at(place.expected_start)}" if place.expected_start else "no engine knows its rate yet"
    return [f"Place {place.position} in the queue, {place.ahead:.0f} s of audio before it; {start}."]


def _counters(record: Record) -> list[str]:
    crashes, starts = sorted(record.counters.crashes.items()), sorted(record.counters.starts.items())
    told = [
        f"A decoder or the engine died {n} times on {unit}: `desifre logs transcriber`." for unit, n in crashes if n
    ]
    # The first start of what is in hand is no trouble.
    return told + [f"{unit} was begun {n} times: the transcriber ended while it had it." for unit, n in starts if n > 1]


def _at(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def look(bus: Bus, records: Records, queue: Queue, engines: Engines, record: Record) -> Evidence:
    """What there is to know of a job. Raises `Unavailable`."""
    tenant, job = record.tenant, record.job
    outcome = await records.outcome(tenant, job)
    own: Mapping[str, int] = await bus.counts(subjects.JOBS, subjects.job(record.lane, tenant, job))
    parts: Mapping[str, int] = await bus.counts(subjects.PARTS, subjects.filter_of(subjects.PARTS, record.lane, tenant))
    return Evidence(
        record=record,
        ended=outcome.state if outcome else None,
        queued=[*own, *(subject for subject in parts if subject.split(".")[3] == job)],
        in_line=len(parts),
        live=bool(await bus.counts(subjects.LIVE, subjects.live_open(job))),
        cards=await engines.cards(),
        place=await queue.place(record),
    )
