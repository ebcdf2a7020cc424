"""Jobs: submit, list, look at, read the result of, listen to, cancel and erase."""

import asyncio

from aiohttp import web

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.formats import Format
from services.contracts.jobs import State
from services.ingest import media
from services.ingest.http import results
from services.ingest.http.answers import accepted, answer, gone, number
from services.ingest.http.body import Submissions
from services.ingest.http.download import download
from services.ingest.http.reference import SUBMISSION, SUBMIT_ERRORS, SUBMIT_PARAMS
from services.ingest.http.route import Answer, Param, Route, claims
from services.ingest.http.versions import version_number
from services.ingest.jobs import Jobs
from services.ingest.queue import Queue
from services.ingest.relay import Relay
from services.ingest.versions import Versions
from services.ingest.views import JobPage, JobView, job_view

PAGE = 50
LARGEST_PAGE = 200
_JOB = Param("job", "id of the job", "path")


class JobRoutes:
    """The routes below /jobs. A job of another tenant is as good as none."""

    def __init__(
        self,
        submissions: Submissions,
        jobs: Jobs,
        versions: Versions,
        relay: Relay,
        queue: Queue,
        longest_wait: float,
    ) -> None:
        self._submissions = submissions
        self._jobs = jobs
        self._versions = versions
        self._relay = relay
        self._queue = queue
        self._longest_wait = longest_wait

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        missing = (Code.JOB_NOT_FOUND,)
        ended = (Code.NOT_FINISHED, Code.FAILED, Code.CANCELLED, Code.ERASED)
        return [
            Route(
                "POST",
                "/jobs",
                self.submit,
                "Submit a recording, or do one again with other options",
                scope=Scope.SUBMIT,
                params=SUBMIT_PARAMS,
                body=SUBMISSION,
                free_query=True,
                answers={202: Answer("The job; `Location` says where to look", JobView)},
                errors=SUBMIT_ERRORS,
            ),
            Route(
                "GET",
                "/jobs",
                self.page,
                "List your jobs, newest first",
                scope=Scope.READ,
                params=(
                    Param("limit", f"jobs on a page, {PAGE} unless said, at most {LARGEST_PAGE}", kind="integer"),
                    Param("before", "`next` of the page before"),
                    Param("state", "only jobs in these states, separated by commas"),
                ),
                answers={200: Answer("A page", JobPage)},
                errors=(Code.MALFORMED,),
            ),
            Route(
                "GET",
                "/jobs/{job}",
                self.look,
                "Look at a job: state, place in the queue, progress, timings",
                scope=Scope.READ,
                params=(_JOB, Param("wait", "seconds to wait for the job to change", kind="number")),
                answers={200: Answer("The job", JobView)},
                errors=(*missing, Code.MALFORMED),
            ),
            Route(
                "GET",
                "/jobs/{job}/result",
                self.result,
                "Read a transcript in any format",
                scope=Scope.READ,
                params=(
                    _JOB,
                    *results.PARAMS,
                    Param("version", "its number, or `latest`; 0, the engine's own, unless said"),
                ),
                answers={200: results.ANSWER},
                errors=(*missing, *ended, *results.ERRORS, Code.VERSION_NOT_FOUND),
            ),
            Route(
                "GET",
                "/jobs/{job}/audio",
                self.audio,
                "Download the recording as it was sent; takes Range",
                scope=Scope.READ,
                params=(_JOB, Param("Range", "`bytes=FIRST-LAST`", "header")),
                answers={
                    200: Answer("The recording", media=media.TYPES),
                    206: Answer("The range asked for", media=media.TYPES),
                },
                errors=(*missing, *ended),
            ),
            Route(
                "DELETE",
                "/jobs/{job}",
                self.delete,
                "Cancel a job; erase the data of one that has ended",
                scope=Scope.DELETE,
                params=(_JOB,),
                answers={200: Answer("The job, cancelled or erased", JobView)},
                errors=missing,
            ),
        ]

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Admit a job and answer as soon as it is durable."""
        return accepted((await self._submissions.admit(request)).record)

    async def page(self, request: web.Request) -> web.StreamResponse:
        """A page of the tenant's jobs."""
        limit = int(number(request, "limit", PAGE, 1, LARGEST_PAGE))
        page = await self._jobs.page(claims(request).tenant, request.query.get("before"), limit, _states(request))
        views = await asyncio.gather(*map(self._view, page.records))
        return answer(JobPage(jobs=list(views), next=page.next))

    async def look(self, request: web.Request) -> web.StreamResponse:
        """One job, at once or as soon as it changes."""
        wait = number(request, "wait", 0, 0, self._longest_wait)
        record = await self._jobs.get(claims(request).tenant, request.match_info["job"])
        if wait and not record.state.terminal:
            record = await self._relay.moved(record, wait, lambda: gone(request))
        return answer(await self._view(record))

    async def result(self, request: web.Request) -> web.StreamResponse:
        """The transcript, rendered from the one that is stored."""
        form, tenant, job = results.asked_format(request), claims(request).tenant, request.match_info["job"]
        wanted = version_number(request.query.get("version", "0"))
        transcript, version = await self._versions.transcript(tenant, job, wanted)
        options = (await self._jobs.manifest(tenant, job)).options if form in (Format.SRT, Format.VTT) else None
        return await results.result(request, form, transcript, version, options)

    async def audio(self, request: web.Request) -> web.StreamResponse:
        """The recording, streamed."""
        return await download(request, await self._jobs.audio(claims(request).tenant, request.match_info["job"]))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Cancel what runs, erase what has ended."""
        record = await self._jobs.cancel_or_erase(claims(request).tenant, request.match_info["job"])
        return answer(await self._view(record))

    async def _view(self, record: Record) -> JobView:
        return job_view(record, await self._queue.place(record), await self._jobs.label(record))


def _states(request: web.Request) -> frozenset[State]:
    names = [name for name in request.query.get("state", "").split(",") if name]
    if unknown := [name for name in names if name not in list(State)]:
        raise Problem(Code.MALFORMED, f"{len(unknown)} of the states asked for are none. Known: {', '.join(State)}.")
    return frozenset(State(name) for name in names)
