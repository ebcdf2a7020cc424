"""The messages of streamed results, as text. Those of events are made in `follow`, once for all who watch."""

from services.contracts import stream
from services.contracts.errors import Code, Problem
from services.ingest.feed import Begun, TooSlow
from services.ingest.problems import problem_of
from services.ingest.streams import Ending
from services.ingest.views import job_view


def watching(job: str, begun: Begun) -> str:
    """A watch begins."""
    view = job_view(begun.record).model_dump(mode="json") if begun.record else None
    after = str(begun.after) if begun.after else None
    return stream.Watching(job_id=job, after=after, job=view).model_dump_json()


def unwatched(job: str) -> str:
    """A watch is over, as asked."""
    return stream.Unwatched(job_id=job).model_dump_json()


def resync(job: str, slow: TooSlow) -> str:
    """A watch is over because its reader was too slow."""
    return stream.Resync(job_id=job, after=str(slow.after) if slow.after else None).model_dump_json()


def error(error: Exception, job: str | None = None) -> str:
    """Something came to nothing; what is no problem of the caller's is a fault of ours."""
    problem = problem_of(error) or Problem(Code.INTERNAL)
    return stream.Error(
        code=problem.code,
        title=problem.kind.title,
        detail=problem.detail,
        remedy=problem.kind.remedy,
        job_id=job,
        retry_after=problem.retry_after,
    ).model_dump_json(exclude_none=True)


def closing(ending: Ending) -> str:
    """The last message."""
    return stream.Closing.model_validate({"code": ending.value[0], "reason": ending.value[1]}).model_dump_json()


def pong() -> str:
    """Yes, somebody is there."""
    return stream.Pong().model_dump_json()
