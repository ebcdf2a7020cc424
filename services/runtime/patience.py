"""Waiting for the other parts of the service at the start: they come up in any order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger

T = TypeVar("T")


async def until_there(step: Callable[[], Awaitable[T]], every: float = 0.2) -> T:
    """Try a step until what it needs is there, however long that takes."""
    log = get_logger()
    waited = 0.0
    while True:
        try:
            return await step()
        except Unavailable as error:
            if waited == 0 or waited > 10:
                log.warning("waiting", reason=str(error))
                waited = 0.0
            waited += every
            await asyncio.sleep(every)
