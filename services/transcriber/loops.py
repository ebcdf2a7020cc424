"""The two loops of a transcriber: one prepares jobs beside the engine, one keeps the engine fed."""

import asyncio
import itertools
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from services.contracts import subjects
from services.contracts.jobs import Lane
from services.contracts.parts import BYTES_PER_SECOND, JobWork, PartWork
from services.runtime.bus import Bus
from services.runtime.fair import Key
from services.runtime.jsapi import Unavailable, api
from services.runtime.lifecycle import Tasks
from services.runtime.logs import get_logger
from services.runtime.puller import Puller, Unit
from services.transcriber.hands import ChildDied, Hands
from services.transcriber.prepare.media import DecoderDied
from services.transcriber.prepare.prepare import Preparer
from services.transcriber.slots import Slots
from services.transcriber.worker import PartWorker

Work = TypeVar("Work", JobWork, PartWork)
NET = 5.0
"""Seconds after which a loop looks again though no bell rang."""


class PartLoop:
    """Takes parts in fair order: what the engine works on, and one more so that it never waits.

    A part that is more urgent than everything in hand is taken besides, and goes first at the next batch.
    """

    def __init__(
        self, puller: Puller, hands: Hands, worker: PartWorker, slots: Slots, tasks: Tasks, done: asyncio.Event
    ) -> None:
        """`done` is set after each part: there may be room for another job's parts."""
        self._done = done
        self._puller = puller
        self._hands = hands
        self._worker = worker
        self._slots = slots
        self._tasks = tasks
        self._order = itertools.count()
        self._opening = 0
        self._in_hand: dict[asyncio.Task[None], tuple[Key, bool]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._puller.bell.clear()
            self._slots.changed.clear()
            try:
                while await self._take():
                    pass
            except Unavailable:
                await asyncio.sleep(0.5)
                continue
            await self._something()

    async def _something(self) -> None:
        waits = [asyncio.create_task(event.wait(), name="wait") for event in (self._puller.bell, self._slots.changed)]
        try:
            await asyncio.wait(waits, timeout=NET, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _take(self) -> bool:
        """Take one more part, if there is room for it; says whether it did."""
        if not self._opening and not self._slots.waiting:
            unit = await self._puller.pull()
            express = False
        else:
            keys = [key for key, _ in self._in_hand.values()]
            if any(express for _, express in self._in_hand.values()):
                return False
            urgent = self._puller.turns.more_urgent(keys)
            unit = await self._puller.pull_from(*urgent) if urgent else None
            express = True
            if urgent and unit is None:
                return True  # that queue was empty; the next one may not be
        if unit is None:
            return False
        work = _parsed(PartWork, unit)
        if work is None:
            await self._puller.done(unit)
            return True
        self._opening += 1
        task = self._tasks.start(self._work(unit, work, express), name="part")
        self._in_hand[task] = (unit.key, express)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._slots.changed.set()
        self._done.set()

    async def _work(self, unit: Unit, work: PartWork, express: bool) -> None:
        rank = (0 if express else 1, next(self._order))
        opened = False

        def now_open() -> None:
            nonlocal opened
            if not opened:
                opened = True
                self._opening -= 1
                self._slots.changed.set()

        try:
            await self._hands.work(unit, work.job, lambda: self._worker.transcribe(work, rank, now_open))
        finally:
            now_open()


class PrepareLoop:
    """Takes jobs in fair order and decodes up to two at once, one of them only if it is small.

    So that a ten-hour recording that is being decoded holds up nobody. What only has to be sealed holds no place.
    Batch jobs wait while enough of their tenant's parts, or of everybody's, wait for the engine: decoded audio is many
    times larger than its source.
    """

    def __init__(
        self,
        bus: Bus,
        puller: Puller,
        hands: Hands,
        preparer: Preparer,
        tasks: Tasks,
        *,
        small: int,
        parts_per_tenant: int,
        pcm_bytes: int,
        part_seconds: float,
    ) -> None:
        self._bus = bus
        self._puller = puller
        self._hands = hands
        self._preparer = preparer
        self._tasks = tasks
        self._small = small
        self._per_tenant = parts_per_tenant
        self._all_parts = int(pcm_bytes / (part_seconds * BYTES_PER_SECOND))
        self._order = itertools.count()
        self._in_hand: dict[int, bool] = {}
        self._refused: set[Key] = set()
        self._free = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._puller.bell.clear()
            try:
                held_up = await self._held_up()
                while len(self._in_hand) < 2 and (unit := await self._puller.pull(_all_but(held_up))):
                    await self._take(unit)
                    held_up |= self._refused
            except Unavailable:
                await asyncio.sleep(0.5)
                continue
            if len(self._in_hand) == 2:
                self._free.clear()
                await self._free.wait()
                continue
            try:
                async with asyncio.timeout(NET if not held_up else 1.0):
                    await self._puller.bell.wait()
            except TimeoutError:
                continue

    async def _held_up(self) -> set[Key]:
        """Who has to wait: big jobs that were refused a place, and batch tenants with enough decoded audio waiting."""
        if not any(self._in_hand.values()):
            self._refused.clear()
        held_up = set(self._refused)
        batch = [key for key in self._puller.turns.busy() if key[0] == Lane.BATCH]
        if not batch:
            return held_up
        info = await api(self._bus.nc, f"$JS.API.STREAM.INFO.{subjects.PARTS}")
        full = info.get("state", {}).get("messages", 0) >= self._all_parts
        for key in batch:
            waiting = await self._bus.counts(subjects.PARTS, subjects.filter_of(subjects.PARTS, *key))
            if full or len(waiting) >= self._per_tenant:
                held_up.add(key)
        return held_up

    async def _take(self, unit: Unit) -> None:
        work = _parsed(JobWork, unit)
        if work is None:
            await self._puller.done(unit)
            return
        big = work.size > self._small
        if big and any(self._in_hand.values()) and not self._hands.has(unit):
            self._refused.add(unit.key)
            await self._puller.give_back(unit, 1.0)
            return
        place = next(self._order)
        self._in_hand[place] = big
        self._tasks.start(self._work(unit, work, place), name="prepare")

    def _leave(self, place: int) -> None:
        if self._in_hand.pop(place, None) is not None:
            self._free.set()

    async def _work(self, unit: Unit, work: JobWork, place: int) -> None:
        async def prepare() -> None:
            try:
                await self._preparer.prepare(work, lambda: self._leave(place))
            except DecoderDied as error:
                raise ChildDied from error

        try:
            await self._hands.work(unit, work.job, prepare)
        finally:
            self._leave(place)


def _parsed(model: type[Work], unit: Unit) -> Work | None:
    """The unit's payload. One that cannot be read is dropped: the reconciler publishes a readable one in its place."""
    try:
        return model.model_validate_json(unit.data)
    except ValidationError:
        get_logger().error("a unit cannot be read", subject=unit.message.subject)
        return None


def _all_but(held_up: set[Key]) -> Callable[[Lane, str], bool]:
    return lambda lane, tenant: (lane, tenant) not in held_up
