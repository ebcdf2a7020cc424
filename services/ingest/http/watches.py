"""The watches of one socket: a task for each, that passes on what happens to a job."""

import asyncio
from contextlib import aclosing

from services.contracts.auth import Claims, Scope
from services.contracts.errors import Code, Problem
from services.contracts.stream import Cursor, Unwatch, Watch
from services.ingest import messages
from services.ingest.auth import require
from services.ingest.feed import Begun, Feed, TooSlow
from services.ingest.follow import Backlog
from services.ingest.http.wire import Writer, trouble
from services.ingest.settings import Settings
from services.runtime.lifecycle import cancel


class Watches:
    """Begins and ends watches; whoever owns it stops them all in the end."""

    def __init__(self, writer: Writer, who: Claims, feed: Feed, settings: Settings) -> None:
        self._writer = writer
        self._who = who
        self._feed = feed
        self._backlog = Backlog(settings.stream_backlog)
        self._most = settings.stream_watches
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def begin(self, asked: Watch) -> None:
        """Watch a job, or all; a watch of the same is replaced. Raises `Problem`."""
        require(self._who, Scope.READ)
        try:
            cursor = Cursor.parse(asked.after) if asked.after is not None else None
        except ValueError:
            raise Problem(Code.MALFORMED, "`after` is the `cursor` of an event.") from None
        await self._stop(asked.job_id)
        if len(self._tasks) >= self._most:
            raise Problem(Code.TOO_MANY_STREAMS, f"At most {self._most} watches on a socket.")
        self._tasks[asked.job_id] = asyncio.create_task(self._watch(asked.job_id, cursor), name="watch")

    async def end(self, asked: Unwatch) -> None:
        """End a watch, and say so."""
        await self._stop(asked.job_id)
        await self._writer.send(messages.unwatched(asked.job_id))

    async def stop(self) -> None:
        """End all."""
        await self._stop(*self._tasks)

    async def _watch(self, job: str, after: Cursor | None) -> None:
        try:
            async with aclosing(self._feed.follow(self._who.tenant, job, after, self._backlog)) as items:
                async for item in items:
                    await self._writer.send(messages.watching(job, item) if isinstance(item, Begun) else item.text)
        except TooSlow as slow:
            await self._writer.last(messages.resync(job, slow))
        except ConnectionError:
            pass  # whoever reads from the socket learns of it too
        except Exception as error:  # noqa: BLE001 - a fault in one watch ends that watch
            await self._writer.last(trouble(error, job))
        finally:
            if self._tasks.get(job) is asyncio.current_task():
                del self._tasks[job]

    async def _stop(self, *jobs: str) -> None:
        tasks = [task for job in jobs if (task := self._tasks.pop(job, None))]
        await cancel(*tasks)
