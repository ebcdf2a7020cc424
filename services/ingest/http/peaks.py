"""The waveform of a recording, as coarse or as fine as somebody wants to draw it."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.errors import Code
from services.contracts.parts import PEAKS_PER_SECOND
from services.ingest.http.answers import answer, number
from services.ingest.http.route import Answer, Param

USUAL = 2000
MOST = 20_000
PARAMS = (
    Param("points", f"values wanted at most, {USUAL} unless said, at most {MOST}", kind="integer"),
    Param("start", "second of the recording to begin at", kind="number"),
    Param("end", "second to end at; the recording's end unless said", kind="number"),
)


class Peaks(BaseModel):
    """The loudest sample of each stretch. All stretches are equally long, but for the last one."""

    duration: float = Field(description="seconds, of the whole")
    start: float
    end: float
    peaks: list[int] = Field(description="0 to 255 = full scale, linear")


ANSWER = Answer("The waveform", Peaks)
ERRORS = (Code.MALFORMED, Code.NO_PEAKS)


def peaks(request: web.Request, data: bytes) -> web.Response:
    """The stretch that is asked for of this waveform."""
    points = int(number(request, "points", USUAL, 1, MOST))
    duration = len(data) / PEAKS_PER_SECOND
    first = int(number(request, "start", 0.0, 0.0, duration) * PEAKS_PER_SECOND)
    last = min(len(data), -int(-number(request, "end", duration, 0.0, duration) * PEAKS_PER_SECOND // 1))
    found = list(coarser(data[first:last], points))
    start, end = first / PEAKS_PER_SECOND, max(first, last) / PEAKS_PER_SECOND
    return answer(Peaks(duration=duration, start=start, end=end, peaks=found))


def coarser(data: bytes, points: int) -> Iterator[int]:
    """At most so many values, each the highest of equally many."""
    each = max(1, -(-len(data) // points))
    return (max(data[at : at + each]) for at in range(0, len(data), each))
