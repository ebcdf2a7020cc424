"""A transcript as OpenAI's server-sent events: the words of each part when it is done, and all of them at the end."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web
from pydantic_core import to_json

from services.contracts.errors import Problem
from services.contracts.events import Record
from services.contracts.jobs import State
from services.contracts.parts import PartWords
from services.contracts.stitching import stitch
from services.contracts.transcript import Segment, Transcript
from services.ingest.http.answers import failure, gone, unfinished
from services.ingest.http.openai_answers import error_body, logprobs, plain
from services.ingest.http.openai_form import SpeechForm
from services.ingest.jobs import Jobs
from services.ingest.problems import problem_of
from services.ingest.relay import Relay
from services.runtime.jsapi import Unavailable

KEEP_ALIVE = 15.0
"""Seconds after which a comment is sent where there are no words yet: proxies cut what is silent for a minute."""
STALLED = 60.0
"""Seconds in which a client must have taken an event."""

Event = dict[str, Any]


class Telling:
    """Puts parts together as they are done, in their order, and says what is new.

    The last segment is held back: where two parts overlap, the next one may yet take words from it.
    """

    def __init__(self) -> None:
        self.part = 0
        """The part that is to be told next."""
        self._told: list[str] = []
        self._held: tuple[Segment, ...] = ()

    @property
    def begun(self) -> bool:
        """Whether anything was told."""
        return bool(self._told)

    def add(self, words: PartWords) -> tuple[Segment, ...]:
        """The segments that the next part makes certain."""
        self.part += 1
        if words.channels is not None:
            return ()  # what is said at once in two channels has its order when all is heard
        together = stitch([PartWords(n=0, segments=self._held), words])
        ready, self._held = together[:-1], together[-1:]
        self._told += (segment.text for segment in ready)
        return ready

    def rest(self, transcript: Transcript) -> tuple[Segment, ...]:
        """What is still to be told; nothing where the transcript is not what its parts made it seem."""
        told = len(self._told)
        return transcript.segments[told:] if [s.text for s in transcript.segments[:told]] == self._told else ()


class SpeechStream:
    """Answers with events. `stopping` is set when the process is about to end."""

    def __init__(self, jobs: Jobs, relay: Relay, stopping: asyncio.Event) -> None:
        self._jobs = jobs
        self._relay = relay
        self._stopping = stopping

    async def answer(self, request: web.Request, record: Record, form: SpeechForm) -> web.StreamResponse:
        """The stream of a job, which goes on whether the client stays or not.

        Raises `Problem` and `Unavailable` as long as nothing was sent; afterwards they are events.
        """
        out = _Events(request)
        try:
            async with aclosing(self._events(request, record, form)) as events:
                async for event in events:
                    await out.send(event)
            await out.end()
        except (Problem, Unavailable) as error:
            problem = problem_of(error)
            if problem is None or not out.response.prepared:
                raise
            await out.send(error_body(problem))
        except (ConnectionError, TimeoutError):
            out.abort()
        return out.response

    async def _events(self, request: web.Request, record: Record, form: SpeechForm) -> AsyncGenerator[Event | None]:
        """The events of a job; None where there is nothing to say."""
        tenant, job, telling = record.tenant, record.job, Telling()
        while True:
            while record.bits >> telling.part & 1 and (words := await self._jobs.words(tenant, job, telling.part)):
                first = not telling.begun
                if ready := telling.add(words):
                    yield _delta(ready, form, first=first)
            if record.state.terminal:
                break
            if self._stopping.is_set():
                raise unfinished(record)
            before, record = record, await self._relay.moved(record, KEEP_ALIVE, lambda: gone(request))
            if record == before:
                yield None
        if record.state == State.FAILED:
            raise failure(record)
        transcript = await self._jobs.transcript(tenant, job)
        if rest := telling.rest(transcript):
            yield _delta(rest, form, first=not telling.begun, last=True)
        yield {"type": "transcript.text.done"} | await asyncio.to_thread(plain, transcript, form)


def _delta(segments: Sequence[Segment], form: SpeechForm, *, first: bool, last: bool = False) -> Event:
    """An event with the text of these segments: all deltas one after the other are the whole text."""
    text = "".join(segment.text for segment in segments)
    text = text.lstrip() if first else text
    event = {"type": "transcript.text.delta", "delta": text.rstrip() if last else text}
    return event | ({"logprobs": logprobs(segments)} if form.logprobs else {})


class _Events:
    """Server-sent events. The head goes out with the first one, so that until then an error has its own status."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse()
        self.response.content_type = "text/event-stream"
        self.response.charset = "utf-8"
        # Else a proxy like nginx collects events before it passes them on.
        self.response.headers["X-Accel-Buffering"] = "no"

    async def send(self, event: Event | None) -> None:
        """Send an event, or a sign of life for None. Raises ConnectionError, TimeoutError."""
        await self._write(b": still at it\n\n" if event is None else b"data: " + to_json(event) + b"\n\n")

    async def end(self) -> None:
        """Say that it was all."""
        await self._write(b"data: [DONE]\n\n")

    async def _write(self, data: bytes) -> None:
        if not self.response.prepared:
            await self.response.prepare(self._request)
        async with asyncio.timeout(STALLED):
            await self.response.write(data)

    def abort(self) -> None:
        """Break the connection: what was promised cannot be kept, or nobody is there."""
        if self._request.transport is not None:
            self._request.transport.abort()
