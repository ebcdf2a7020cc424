"""OpenAI's speech endpoints: a program written for them changes one address, and everything else stays.

Parameters, formats, events and errors are those of the API as openai-python uses it. Its client repeats what timed
out, without a word that says so: equal bytes with equal options are one job, so nothing is transcribed twice.
"""

import asyncio

from aiohttp import web

from services.contracts.auth import Scope
from services.contracts.errors import Code
from services.contracts.formats import CONTENT_TYPES
from services.contracts.jobs import State
from services.ingest.http.answers import asked_wait, failure, gone, unfinished
from services.ingest.http.body import Fields, Submissions
from services.ingest.http.openai_answers import OPENAI, SpeechAnswer, speech
from services.ingest.http.openai_form import SpeechForm, read
from services.ingest.http.openai_stream import SpeechStream
from services.ingest.http.reference import FAILURES, FORM_ERRORS
from services.ingest.http.route import Answer, Body, Route
from services.ingest.jobs import Jobs
from services.ingest.relay import Relay
from services.ingest.settings import Settings

_MEDIA = (*dict.fromkeys(CONTENT_TYPES.values()), "text/event-stream")


class OpenAIRoutes:
    """Transcriptions and translations."""

    def __init__(
        self, submissions: Submissions, jobs: Jobs, relay: Relay, stopping: asyncio.Event, settings: Settings
    ) -> None:
        self._submissions = submissions
        self._jobs = jobs
        self._relay = relay
        self._stream = SpeechStream(jobs, relay, stopping)
        self._wait = settings.transcribe_wait
        self._aliases = settings.model_aliases

    def routes(self) -> list[Route]:
        """Both routes, with what the reference says."""
        return [
            Route(
                "POST",
                f"/v1/audio/{name}",
                handler,
                summary,
                scope=Scope.SUBMIT,
                body=Body(form=SpeechForm),
                answers={200: Answer("The transcript as `response_format` says, or its events", SpeechAnswer, _MEDIA)},
                errors=(*FORM_ERRORS, *FAILURES, Code.NOT_FINISHED, Code.CANCELLED, Code.ERASED),
                shape=OPENAI,
                free_query=True,
            )
            for name, handler, summary in (
                ("transcriptions", self.transcriptions, "Transcribe a recording, as OpenAI's API does"),
                ("translations", self.translations, "Translate a recording to English, as OpenAI's API does"),
            )
        ]

    async def transcriptions(self, request: web.Request) -> web.StreamResponse:
        """The words in the language that they were said in."""
        return await self._answer(request, "transcribe")

    async def translations(self, request: web.Request) -> web.StreamResponse:
        """The words in English."""
        return await self._answer(request, "translate")

    async def _answer(self, request: web.Request, task: str) -> web.StreamResponse:
        def options(fields: Fields) -> dict[str, str]:
            return read(fields).options(task, self._aliases)

        with self._submissions.waited_for(request):
            admitted, fields = await self._submissions.admit_form(request, options)
            form = read(fields)
            if form.stream:
                return await self._stream.answer(request, admitted.record, form)
            wait = asked_wait(request, self._wait)
            record = await self._relay.settled(admitted.record, wait, lambda: gone(request))
        if not record.state.terminal:
            raise unfinished(record)
        if record.state == State.FAILED:
            raise failure(record)
        transcript = await self._jobs.transcript(record.tenant, record.job)
        return await asyncio.to_thread(speech, transcript, form)
