"""Waiting for the other parts of the service at the start: they come up in any order."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger

T = TypeVar("T")
START = 30.0
"""Seconds for which a service that starts waits for another; then it ends and says why, and its supervisor goes on."""


async def until_there(step: Callable[[], Awaitable[T]], every: float = 0.2, most: float = math.inf) -> T:
    """Try a step until what it needs is there, for `most` seconds. Raises `Unavailable` after them."""
    log = get_logger()
    waited, until = 0.0, asyncio.get_running_loop().time() + most
    while True:
        try:
            return await step()
        except Unavailable as error:
            if asyncio.get_running_loop().time() > until:
                raise
            if waited == 0 or waited > 10:
                log.warning("waiting", reason=str(error))
                waited = 0.0
            waited += every
            await asyncio.sleep(every)
