"""OpenAI's own clients, told of no more than another address and key."""

import io
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import openai

from tests import media
from tests.doors.caller import Caller

TALK = media.encode(media.talk(3.0, seed=7), "wav")
Clients = Callable[..., openai.AsyncOpenAI]


def talk(data: bytes = TALK) -> tuple[str, io.BytesIO]:
    """A file as the client sends it."""
    return "talk.wav", io.BytesIO(data)


@asynccontextmanager
async def clients() -> AsyncIterator[Clients]:
    """Makes clients, and closes them in the end."""
    async with AsyncExitStack() as made:

        def make(caller: Caller, **more: Any) -> openai.AsyncOpenAI:
            options = {"base_url": f"{caller.base}/v1", "api_key": caller.key or "none", "max_retries": 0} | more
            found = openai.AsyncOpenAI(**options)
            made.push_async_callback(found.close)
            return found

        yield make
