"""Tasks end when their owner ends them."""

import asyncio

from services.runtime.lifecycle import cancel


async def test_a_task_that_swallows_a_cancellation_ends() -> None:
    """A task that goes on after it was cancelled is cancelled again, and one that fails meanwhile holds up nobody."""
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1  # as `asyncio.wait_for` does when what it waits for is there at that very moment
        await asyncio.Event().wait()

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    tasks = [asyncio.create_task(work(), name="work") for work in (deaf, failing)]
    await asyncio.sleep(0)
    await cancel(*tasks)
    assert swallowed == 1
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
