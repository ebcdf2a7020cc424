"""One client's live session on its socket: audio in, words out, until it closes or is gone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from services.contracts import subjects
from services.contracts.auth import Claims
from services.contracts.errors import Code, Problem
from services.contracts.jobs import State
from services.contracts.live import Encoding, LiveClose, Op, Ready, Received, Resume, Start, Summary
from services.contracts.stream import Cursor
from services.ingest.http.pace import Pace
from services.ingest.http.unheard import Unheard
from services.ingest.line import Line
from services.ingest.live import SIGNATURE, LiveDoor, encoding_of
from services.runtime.bus import Bus
from services.runtime.jsapi import Unavailable
from services.runtime.lifecycle import cancel
from services.runtime.tail import Tail

TELL = 1.0
"""Seconds, by the clock, between two messages that say how much is safe."""
LOOK = 5.0
CHECK = 0.5
"""Seconds between two looks whether the session is still this socket's."""
Send = Callable[[str], Awaitable[None]]


class Call:
    """Speaks for one socket. Every method may raise `Problem`, `Unavailable`, ConnectionError from `send`.

    `unasked`: how a client is heard that sends audio before it has said `start`, by what its first bytes are.
    `plain`: such a client reads the whole text so far in each message.
    """

    def __init__(
        self,
        door: LiveDoor,
        bus: Bus,
        who: Claims,
        send: Send,
        unasked: Callable[[Encoding], Start],
        *,
        plain: bool,
    ) -> None:
        self._door = door
        self._bus = bus
        self._who = who
        self._send = send
        self._unasked = unasked
        self._plain = plain
        self._line: Line | None = None
        self._head = b""
        self.unaware = False
        """Whether the client sent audio without a word before: it does not know that a session can be resumed."""
        self._text = ""
        self._summed_up = False
        self._pace = Pace(None)
        self._came = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.over: asyncio.Future[LiveClose] = asyncio.get_running_loop().create_future()
        """Done when the session has ended and everything was said."""

    @property
    def open(self) -> bool:
        """Whether there is a session."""
        return self._line is not None

    @property
    def heard(self) -> bool:
        """Whether there is a session, or audio for one."""
        return self.open or bool(self._head)

    async def start(self, start: Start) -> None:
        """Open a session."""
        self._only_once()
        self._plain = False
        await self._open(start)

    async def resume(self, resume: Resume) -> None:
        """Go on with a session."""
        self._only_once()
        after = await self._door.after(resume.after)
        epoch = await self._door.epoch()
        line = await self._door.resume(self._who, resume.session_id)
        self._plain = False
        await self._begin(line, after, epoch, resumed=True)

    def _only_once(self) -> None:
        if self._line is not None or self._head:
            raise Problem(Code.MALFORMED, "A socket has one live session.")

    async def _open(self, start: Start) -> None:
        """Open a session and tell of it: one of which nobody learns is over at once."""
        epoch = await self._door.epoch()
        line = await self._door.open(self._who, start)
        try:
            await self._begin(line, 0, epoch, resumed=False)
        except BaseException:
            await self._part(line)
            raise

    async def _begin(self, line: Line, after: int, epoch: str, *, resumed: bool) -> None:
        self._line = line
        session = line.session
        self._pace = Pace(session.live.bytes_per_second)
        await self._send(
            Ready(
                session_id=session.session,
                job_id=session.session,
                model=session.options.model,
                warm=line.warm,
                ready_in=None if line.warm else 3.0,
                resumed=resumed,
                received=line.received,
                cursor=str(Cursor(epoch, after)) if after else None,
            ).model_dump_json(exclude_none=True)
        )
        unheard = Unheard(self._bus, session.session, self.mention)
        self._tasks = [
            asyncio.create_task(self._follow(line, after, epoch, unheard), name="live results"),
            asyncio.create_task(unheard.run(), name="live engine"),
            asyncio.create_task(self._check(line), name="live line"),
            asyncio.create_task(self._acknowledge(line), name="live receipts"),
        ]

    async def audio(self, data: bytes) -> None:
        """Take audio; back when it is safe."""
        if self._line is None:
            # Browsers cut where they like: the first piece may be a single byte, which tells nothing yet.
            self._head += data
            if len(self._head) < SIGNATURE:
                return
            data = await self._begin_unasked()
        line = self._line
        assert line is not None
        await line.write(data)
        self._came.set()
        await self._pace.took(len(data))

    async def _begin_unasked(self) -> bytes:
        """Open a session for the audio that has come; returns that audio, which is still to be written."""
        head, self._head = self._head, b""
        self.unaware = True
        await self._open(self._unasked(encoding_of(head)))
        return head

    async def finalize(self) -> None:
        """Have everything so far made final."""
        await self._say(Op.FINALIZE)

    async def keep_alive(self) -> None:
        """Note that the client is there."""
        await self._say(Op.BEAT)

    async def close(self) -> None:
        """The client is done: what follows are the last words and the summary."""
        await self._say(Op.END)

    async def _say(self, op: Op) -> None:
        if self._line is None and self._head:
            head = await self._begin_unasked()
            assert self._line is not None
            await self._line.write(head)
        if self._line is None:
            raise Problem(Code.MALFORMED, "There is no live session: send `start`, `resume` or audio first.")
        await self._line.say(op)
        await self._pace.took(0)

    async def leave(self, *, for_good: bool = False) -> None:
        """The socket is gone; the session waits for its client for a minute, unless that is gone `for_good`."""
        await cancel(*self._tasks)
        if for_good and self._line is not None:
            await self._part(self._line)
        if self.over.done() and not self.over.cancelled():
            self.over.exception()  # told already, or of no interest to anybody any more

    async def _part(self, line: Line) -> None:
        """End a session to which nobody will come back; if that fails it ends when its minute is over."""
        with suppress(Problem, Unavailable):
            await line.say(Op.END)

    async def mention(self, message: str) -> None:
        """Send what is none of the session's own messages: the summary is the last that a client reads."""
        if not self._summed_up:
            await self._send(message)

    async def _acknowledge(self, line: Line) -> None:
        """Say how much is safe, about once a second while audio comes, and of the last of it too."""
        rate = line.session.live.bytes_per_second
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                seconds = round(line.received / rate, 3) if rate else None
                told = Received(received=line.received, seconds=seconds)
                await self.mention(told.model_dump_json(exclude_none=True))
                await asyncio.sleep(TELL)
        except ConnectionError:
            pass  # whoever reads from the socket learns of it too

    async def _check(self, line: Line) -> None:
        """Learn of it when another socket goes on with the session, also where this one only listens."""
        while True:
            await asyncio.sleep(CHECK)
            try:
                if not await line.check():
                    self._finish(Unavailable("bus"))  # which lost it: who resumes it is told how it ended
            except Problem as taken:
                self._finish(taken)
            except Unavailable:
                continue  # it is there again soon, as it was
            if self.over.done():
                return

    async def _follow(self, line: Line, after: int, epoch: str, unheard: Unheard) -> None:
        """Pass on what is heard, each message once and in order."""
        try:
            name = line.session.session
            async with Tail(self._bus.nc, subjects.LIVE, subjects.live_out(name), after) as tail:
                while True:
                    entries = await tail.next(LOOK)
                    said = [(entry.sequence, json.loads(entry.data)) for entry in entries]
                    for at, (sequence, message) in enumerate(said):
                        later = {following["type"] for _, following in said[at + 1 :]}
                        if message["type"] == "interim" and later & {"interim", "final"}:
                            continue  # out of date already
                        cursor = str(Cursor(epoch, sequence))
                        if message["type"] == "ended":
                            await self._end(message, cursor)
                            return
                        await self._pass_on(message, cursor, name)
                        await unheard.heard(message)
        except ConnectionError:
            pass  # whoever reads from the socket learns of it too
        except Unavailable as away:
            self._finish(away)
        except Exception as error:  # noqa: BLE001 - told by whoever waits for the end
            self._finish(error)

    async def _pass_on(self, message: dict[str, Any], cursor: str, session: str) -> None:
        kind = message["type"]
        if self._plain and kind in ("interim", "final"):
            so_far = self._text + message["text"]
            if kind == "final":
                self._text = so_far
            message = message | {"text": so_far.strip()}
        for inner in ("input", "resume", "done", "engine"):
            message.pop(inner, None)
        await self._send(json.dumps({**message, "session_id": session, "cursor": cursor}, ensure_ascii=False))

    async def _end(self, message: dict[str, Any], cursor: str) -> None:
        line = self._line
        assert line is not None
        job = line.session.session
        text = await self._door.text(line.session) if message["state"] == State.COMPLETED else ""
        problem = Problem(Code(message["code"])) if message.get("code") else None
        summary = Summary(
            session_id=job,
            job_id=job,
            cursor=cursor,
            state=message["state"],
            duration=message["duration"],
            text=text,
            urls={"job": f"/jobs/{job}", "result": f"/jobs/{job}/result", "audio": f"/jobs/{job}/audio"},
            error=problem.body() if problem else None,
        )
        self._summed_up = True
        await self._send(summary.model_dump_json(exclude_none=True))
        self._finish(LiveClose.IDLE if await line.lost() else LiveClose.DONE)

    def _finish(self, how: LiveClose | Exception) -> None:
        if self.over.done():
            return
        if isinstance(how, Exception):
            self.over.set_exception(how)
        else:
            self.over.set_result(how)
