"""How it is measured: alternating pairs in one run, ratios of pairs, medians with their spread."""

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

Run = Callable[[], Awaitable[float]]
"""One run; the seconds that it took."""

REST = 0.5
"""Seconds between two runs, in which what the last one left to do is done."""


class Pair(NamedTuple):
    """One run of ours and one of the baseline, next to one another in time; seconds unless said."""

    ours: float
    bare: float

    @property
    def ratio(self) -> float:
        """Ours to the baseline."""
        return self.ours / self.bare


async def settle() -> None:
    """Let the last run end: what it wrote goes to the disk now, not at the expense of the next one's barrier."""
    await asyncio.to_thread(os.sync)
    await asyncio.sleep(REST)


async def alternate(pairs: int, ours: Run, bare: Run, between: Callable[[], Awaitable[None]] = settle) -> list[Pair]:
    """Run both `pairs` times, in turns, and the other one first every other time.

    So that a machine that becomes slower or faster meanwhile does so for both.
    """

    async def one(run: Run) -> float:
        await between()
        return await run()

    done: list[Pair] = []
    for n in range(pairs):
        if n % 2 == 0:
            mine, theirs = await one(ours), await one(bare)
        else:
            theirs, mine = await one(bare), await one(ours)
        done.append(Pair(mine, theirs))
    return done


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of all stay at or below (nearest rank: always one that was measured)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True)
class Figure:
    """One number of the table. `target` is what it is to reach: at most, or at least with `more`."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    count: int | None = None
    target: float | None = None
    more: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.more else self.value <= self.target

    def shown(self) -> str:
        """Value, spread and number of measurements."""
        spread = f"{number(self.low)} to {number(self.high)}" if self.low is not None and self.high is not None else ""
        details = ", ".join(filter(None, [spread, f"n = {self.count}" if self.count else ""]))
        return f"**{number(self.value)}{self.unit and ' ' + self.unit}**" + (f" ({details})" if details else "")

    def wanted(self) -> str:
        """The target, and whether it is reached."""
        if self.target is None:
            return ""
        sign = "≥" if self.more else "≤"
        return f"{sign} {number(self.target)}{self.unit and ' ' + self.unit}: {'met' if self.met else '**missed**'}"


def number(value: float | None) -> str:
    """Three digits that count, without an exponent."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def ratio(pairs: Sequence[Pair], target: float, *, name: str = "ours ÷ bare, median of pairs") -> Figure:
    """The median of the pairs' ratios."""
    ratios = [pair.ratio for pair in pairs]
    return Figure(name, median(ratios), "", min(ratios), max(ratios), len(ratios), target)


def middle(name: str, values: Sequence[float], unit: str = "s", target: float | None = None) -> Figure:
    """The median with smallest and largest."""
    return Figure(name, median(values), unit, min(values), max(values), len(values), target)


def at(share: float, name: str, values: Sequence[float], unit: str = "s", target: float | None = None) -> Figure:
    """A quantile; its spread is not told by one run, so only the number of measurements is."""
    return Figure(name, quantile(values, share), unit, count=len(values), target=target)


@dataclass
class Row:
    """What one module measured: figures for the table, notes for who reads it, samples for the JSON file."""

    what: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    samples: dict[str, object] = field(default_factory=dict)
