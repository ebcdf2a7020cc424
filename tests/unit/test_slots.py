"""The engine's slots: rank decides, one express place, and the engine alone for a suspect."""

import asyncio
from collections.abc import Awaitable

from services.transcriber.slots import Rank, Slots


class Stage:
    """Holders that stay until they are let go, and the order in which they came on."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.on: list[str] = []
        self._doors: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def enter(self, name: str, rank: Rank, *, alone: bool = False) -> None:
        self._doors[name] = asyncio.Event()

        async def hold() -> None:
            async with self.slots.slot(rank, alone=alone):
                self.on.append(name)
                await self._doors[name].wait()

        self._tasks[name] = asyncio.create_task(hold(), name=name)
        await settle()

    async def leave(self, name: str) -> None:
        self._doors[name].set()
        await self._tasks[name]
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await settle()


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_rank_decides_who_is_next() -> None:
    """When a slot is given back it goes to the smallest rank, whoever asked first."""

    async def run() -> None:
        stage = Stage(Slots(1, 0))
        await stage.enter("first", (1, 0))
        await stage.enter("late", (1, 2))
        await stage.enter("early", (1, 1))
        assert stage.slots.waiting == 2
        await stage.leave("first")
        await stage.leave("early")
        await stage.leave("late")
        assert stage.on == ["first", "early", "late"]

    execute(run())


def test_the_express_slot_is_for_those_who_go_first() -> None:
    """With all slots taken an express rank comes on at once, an ordinary one waits, and only one express fits."""

    async def run() -> None:
        stage = Stage(Slots(2, 1))
        await stage.enter("a", (1, 0))
        await stage.enter("b", (1, 0))
        await stage.enter("c", (1, 1))
        await stage.enter("clip", (0, 2))
        assert stage.on == ["a", "b", "clip"]
        await stage.enter("clip again", (0, 3))
        assert stage.on == ["a", "b", "clip"]
        await stage.leave("a")
        assert stage.on == ["a", "b", "clip"], "three are on two slots as long as one is free again"
        await stage.leave("b")
        assert stage.on == ["a", "b", "clip", "clip again"]

    execute(run())


def test_a_suspect_works_alone() -> None:
    """A rank that asks to be alone waits for the others to leave, and holds them off until it is done."""

    async def run() -> None:
        stage = Stage(Slots(2, 1))
        await stage.enter("bystander", (1, 0))
        await stage.enter("suspect", (1, 1), alone=True)
        await stage.enter("other", (1, 0))
        assert stage.on == ["bystander"]
        await stage.leave("bystander")
        assert stage.on == ["bystander", "suspect"]
        await stage.leave("suspect")
        assert stage.on == ["bystander", "suspect"]
        stage.slots.leave((1, 1))
        await settle()
        assert stage.on == ["bystander", "suspect", "other"]

    execute(run())


def test_a_cancelled_waiter_takes_no_slot() -> None:
    """Somebody who gives up while waiting, or while holding, leaves the slot to the next."""

    async def run() -> None:
        stage = Stage(Slots(1, 0))
        await stage.enter("a", (1, 0))
        await stage.enter("b", (1, 1))
        await stage.enter("c", (1, 2))
        await stage.cancel("b")
        await stage.cancel("a")
        assert stage.on == ["a", "c"]
        assert stage.slots.waiting == 0

    execute(run())


def execute(work: Awaitable[None]) -> None:
    """Run in a loop of its own: what stays behind would be an error."""

    async def main() -> None:
        await work
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(main())


async def test_a_live_session_keeps_one_slot_empty() -> None:
    """While somebody speaks one regular slot stays empty, but never the last; then batches have them all again."""
    speaking = True
    stage = Stage(Slots(2, 1, lambda: speaking))
    for name, order in (("a", 1), ("b", 2), ("c", 3)):
        await stage.enter(name, (1, order))
    assert stage.on == ["a"]
    await stage.enter("clip", (0, 4))
    assert stage.on == ["a", "clip"]
    speaking = False
    await stage.leave("clip")
    assert stage.on == ["a", "clip", "b"]
    await stage.leave("a")
    await stage.leave("b")
    await stage.leave("c")
    alone = Stage(Slots(1, 0, lambda: True))
    await alone.enter("only", (1, 1))
    assert alone.on == ["only"]
    await alone.leave("only")
