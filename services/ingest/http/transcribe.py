"""POST /transcribe: send a recording, get its words, as the old service's callers do."""

import asyncio

from aiohttp import web

from services.contracts.auth import Scope
from services.contracts.events import Record
from services.contracts.formats import Document, document
from services.contracts.jobs import State
from services.contracts.transcript import Transcript
from services.ingest.http.answers import accepted, asked_wait, failure, gone
from services.ingest.http.body import Submissions
from services.ingest.http.reference import FAILURES, SUBMISSION, SUBMIT_ERRORS, SUBMIT_PARAMS
from services.ingest.http.route import Answer, Param, Route, claims
from services.ingest.jobs import Jobs
from services.ingest.relay import Relay
from services.ingest.views import JobView, timings_view


class Transcription(Document):
    """The answer of the old service, and everything that `json` holds."""

    user: str
    queue_wait_time: float
    processing_time: float


class Transcribe:
    """Submits, waits for the end, answers with the words; or says where to look when that takes too long."""

    def __init__(self, submissions: Submissions, jobs: Jobs, relay: Relay, wait: float) -> None:
        self._submissions = submissions
        self._jobs = jobs
        self._relay = relay
        self._wait = wait

    def routes(self) -> list[Route]:
        """The one route."""
        return [
            Route(
                "POST",
                "/transcribe",
                self.transcribe,
                "Transcribe a recording and wait for its words",
                scope=Scope.SUBMIT,
                params=(
                    Param("async", "`true`: answer 202 at once", kind="boolean"),
                    Param("Prefer", "`respond-async`, or `wait=SECONDS` for less than the longest wait", "header"),
                    *SUBMIT_PARAMS,
                ),
                body=SUBMISSION,
                free_query=True,
                answers={
                    200: Answer("The transcript", Transcription),
                    202: Answer("Not finished yet: the job, and in `Location` where to look", JobView),
                },
                errors=(*SUBMIT_ERRORS, *FAILURES),
            )
        ]

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """The job goes on whether the client stays or not: from admission on it is durable."""
        wait = asked_wait(request, self._wait)
        with self._submissions.waited_for(request):
            record = (await self._submissions.admit(request)).record
            if wait:
                record = await self._relay.settled(record, wait, lambda: gone(request))
        if not record.state.terminal:
            return accepted(record)
        if record.state == State.FAILED:
            raise failure(record)
        who = claims(request)
        transcript = await self._jobs.transcript_of(record)
        return web.Response(
            body=await asyncio.to_thread(_answer, transcript, record, who.username), content_type="application/json"
        )


def _answer(transcript: Transcript, record: Record, user: str) -> bytes:
    timings = timings_view(record.timings)
    answer = Transcription(
        **dict(document(transcript)),
        user=user,
        queue_wait_time=timings.queue_wait_time or 0.0,
        processing_time=timings.processing_time or 0.0,
    )
    return answer.model_dump_json().encode()
