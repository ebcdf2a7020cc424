"""Answers that several routes give."""

import re

from aiohttp import web
from pydantic import BaseModel, ValidationError

from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.ingest.views import job_view

_PREFERENCE = re.compile(r"(?:^|,)\s*(respond-async|wait)\s*(?:=\s*\"?(\d{1,6})\"?)?", re.IGNORECASE)


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


def unfinished(record: Record) -> Problem:
    """The wait is over and the job is not."""
    detail = "The job goes on. Send the same request again to wait on; nothing is transcribed twice."
    return Problem(Code.NOT_FINISHED, detail, job_id=record.job)


def gone(request: web.Request) -> bool:
    """Whether the client has hung up."""
    return request.transport is None or request.transport.is_closing()


def asked_wait(request: web.Request, longest: float) -> float:
    """Seconds for which the client wants to wait for the end of its job: `longest` unless it says less."""
    if request.query.get("async", "").lower() in ("true", "1", "yes"):
        return 0.0
    # RFC 7240: `wait` says how long, `respond-async` alone says not at all.
    preferences = {word.lower(): value for word, value in _PREFERENCE.findall(request.headers.get("Prefer", ""))}
    if preferences.get("wait"):
        return min(longest, float(preferences["wait"]))
    return 0.0 if "respond-async" in preferences else longest


def invalid(error: ValidationError, code: Code) -> Problem:
    """What is wrong with a document, under this code; nothing of what the client sent is quoted but names of ours."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))[:64]
    return Problem(code, f"{f'`{place}`: ' if place else ''}{first['msg']}.")


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
