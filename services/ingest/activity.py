"""What the service did lately: speech heard, jobs ended, and why some failed. Numbers and codes; no names, no ids.

Every ingest hears every state of every job, so each can tell; what was before its start it knows as far as records do.
"""

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from services.contracts.errors import ERRORS, Code
from services.contracts.events import Record
from services.contracts.jobs import State

STEP = 10.0
"""Seconds that one number stands for."""
STEPS = 90
"""Numbers kept: a quarter of an hour."""
DAY = 86_400.0
"""Seconds for which failures are told."""
REMEMBERED = 20_000
"""Jobs kept in mind, so that what is heard twice counts once; and failures."""
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Failures:
    """Jobs that failed with one code in the last day; `last` in Unix seconds. `ours`: the service's own fault."""

    code: str
    count: int
    last: float
    ours: bool


@dataclass(frozen=True, slots=True)
class Throughput:
    """Per step, oldest first, the last one being filled: seconds of audio heard, jobs completed and failed."""

    until: float
    audio: list[float]
    completed: list[int]
    failed: list[int]


class Activity:
    """Counts in constant memory. `hear` may be told of the same state again, and of old ones."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.started = clock()
        self._audio: dict[int, float] = {}
        self._ended: dict[State, Counter[int]] = {State.COMPLETED: Counter(), State.FAILED: Counter()}
        self._heard: OrderedDict[Key, float] = OrderedDict()
        self._known: OrderedDict[Key, float] = OrderedDict()
        self._failures: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def hear(self, record: Record) -> None:
        """Take note of a state of a job."""
        key, now = (record.tenant, record.job), self._clock()
        if key not in self._heard and record.timings.accepted < self.started:
            self._heard[key] = record.audio_done  # how much of it was heard lately, nobody knows
        heard = record.audio_done - self._heard.get(key, 0.0)
        if heard > 0:
            step = int(now // STEP)
            self._audio[step] = self._audio.get(step, 0.0) + heard
        self._heard[key] = max(record.audio_done, self._heard.get(key, 0.0))
        self._heard.move_to_end(key)
        _trim(self._heard)
        if record.state in self._ended and key not in self._known:
            self._known[key] = now
            _trim(self._known)
            self._end(record, record.timings.finished or now, now)

    def throughput(self) -> Throughput:
        """The last quarter of an hour."""
        last = int(self._clock() // STEP)
        steps = range(last - STEPS + 1, last + 1)
        self._audio = {step: seconds for step, seconds in self._audio.items() if step >= steps[0]}
        for counted in self._ended.values():
            for old in [step for step in counted if step < steps[0]]:
                del counted[old]
        return Throughput(
            until=(last + 1) * STEP,
            audio=[round(self._audio.get(step, 0.0), 1) for step in steps],
            completed=[self._ended[State.COMPLETED][step] for step in steps],
            failed=[self._ended[State.FAILED][step] for step in steps],
        )

    def failures(self) -> list[Failures]:
        """Those of the last day by code, the most recent first."""
        since, found = self._clock() - DAY, dict[str, list[float]]()
        for at, code in self._failures:
            if at >= since:
                found.setdefault(code, []).append(at)
        told = [Failures(code, len(times), max(times), _is_ours(code)) for code, times in found.items()]
        return sorted(told, key=lambda one: -one.last)

    def _end(self, record: Record, at: float, now: float) -> None:
        if at < now - DAY:
            return
        self._ended[record.state][int(at // STEP)] += 1
        if record.state == State.FAILED:
            self._failures.append((at, record.failure.code if record.failure else Code.FAILED))


def _trim(found: OrderedDict[Key, float]) -> None:
    while len(found) > REMEMBERED:
        found.popitem(last=False)


def _is_ours(code: str) -> bool:
    return code not in list(Code) or ERRORS[Code(code)].status >= 500
