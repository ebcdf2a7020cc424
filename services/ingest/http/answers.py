"""Answers that several routes give."""

from aiohttp import web
from pydantic import BaseModel

from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.ingest.views import job_view


def answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A model as JSON."""
    body = model.model_dump_json().encode()
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def accepted(record: Record) -> web.Response:
    """202: the job, and where to look."""
    return answer(job_view(record), 202, {"Location": f"/jobs/{record.job}", "Retry-After": "2"})


def failure(record: Record) -> Problem:
    """Why a job failed, under the code of its failure."""
    failed = record.failure
    code = Code(failed.code) if failed is not None and failed.code in list(Code) else Code.FAILED
    return Problem(code, failed.message if failed else None, job_id=record.job)


def gone(request: web.Request) -> bool:
    """Whether the client has hung up."""
    return request.transport is None or request.transport.is_closing()


def number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """A number in the query, no larger than `high`. Raises `Problem` MALFORMED."""
    text = request.query.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        raise Problem(Code.MALFORMED, f"`{name}` must be a number.") from None
    if not value >= low:
        raise Problem(Code.MALFORMED, f"`{name}` must be at least {low:g}.")
    return min(value, high)
