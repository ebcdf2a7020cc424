"""What became of a job's callback, and doing it once more."""

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.contracts.callbacks import Attempt, Delivery, Told, webhook_id
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.ingest.callbacks.deliver import Deliverer
from services.ingest.callbacks.log import Deliveries
from services.ingest.http.answers import answer
from services.ingest.http.route import Answer, Param, Route, claims
from services.ingest.jobs import Jobs

_JOB = Param("job", "id of the job", "path")


class DeliveriesView(BaseModel):
    """The log of a job's callback."""

    job_id: str
    callback_url: str
    webhook_id: str | None = Field(description="of every call about this end; null until the job has ended")
    state: Told
    next: float | None = Field(description="Unix seconds of the next call, while waiting")
    attempts: list[Attempt] = Field(description="the last 20, oldest first")


class DeliveryRoutes:
    """The routes below /jobs/{job}/deliveries."""

    def __init__(self, jobs: Jobs, log: Deliveries, deliverer: Deliverer) -> None:
        self._jobs = jobs
        self._log = log
        self._deliverer = deliverer

    def routes(self) -> list[Route]:
        """Both, with what the reference says."""
        errors = (Code.JOB_NOT_FOUND, Code.NO_CALLBACK, Code.ERASED)
        return [
            Route(
                "GET",
                "/jobs/{job}/deliveries",
                self.deliveries,
                "Look at a job's callback: every call and what was answered",
                scope=Scope.READ,
                params=(_JOB,),
                answers={200: Answer("The log", DeliveriesView)},
                errors=errors,
            ),
            Route(
                "POST",
                "/jobs/{job}/deliveries",
                self.deliver_again,
                "Call back once more, now, and wait for what is answered",
                scope=Scope.SUBMIT,
                params=(_JOB,),
                answers={200: Answer("The log with this call", DeliveriesView)},
                errors=(*errors, Code.NOT_FINISHED),
            ),
        ]

    async def deliveries(self, request: web.Request) -> web.StreamResponse:
        """The log as it stands."""
        record = await self._record(request)
        return await self._answer(record, await self._log.get(record.tenant, record.job))

    async def deliver_again(self, request: web.Request) -> web.StreamResponse:
        """One call beside the schedule."""
        record = await self._record(request)
        return await self._answer(record, await self._deliverer.again(record))

    async def _record(self, request: web.Request) -> Record:
        return await self._jobs.get(claims(request).tenant, request.match_info["job"])

    async def _answer(self, record: Record, log: Delivery | None) -> web.StreamResponse:
        manifest = await self._jobs.manifest(record.tenant, record.job)
        if manifest.callback_url is None:
            raise Problem(Code.NO_CALLBACK)
        log = log or Delivery(job=record.job)
        return answer(
            DeliveriesView(
                job_id=record.job,
                callback_url=manifest.callback_url,
                webhook_id=webhook_id(record.job, record.state) if record.state.terminal else None,
                state=log.told,
                next=log.next,
                attempts=list(log.attempts),
            )
        )
