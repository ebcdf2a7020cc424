"""A transcript on its way out, in any format: for its owner and for who was given a link."""

import asyncio

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.contracts.formats import CONTENT_TYPES, Document, Format, render
from services.contracts.jobs import Options
from services.contracts.transcript import Transcript
from services.ingest.http.answers import number
from services.ingest.http.route import Answer, Param

VERSION = "desifre-version"
"""Header that says which version an answer holds."""
PARAMS = (
    Param("format", f"{', '.join(Format)}; json unless said"),
    Param("max_line_width", "characters of a subtitle line; the job's option unless said", kind="integer"),
    Param("max_line_count", "lines of a subtitle; the job's option unless said", kind="integer"),
)
ANSWER = Answer("The transcript", Document, tuple(dict.fromkeys(CONTENT_TYPES.values())))
ERRORS = (Code.FORMAT, Code.MALFORMED)


def asked_format(request: web.Request) -> Format:
    """The format that is asked for. Raises `Problem` FORMAT."""
    name = request.query.get("format", Format.JSON)
    if name not in list(Format):
        raise Problem(Code.FORMAT)
    return Format(name)


async def result(
    request: web.Request, form: Format, transcript: Transcript, version: int, options: Options | None
) -> web.Response:
    """The transcript in this format; `options` are the job's, for subtitles."""
    width = int(number(request, "max_line_width", (options and options.max_line_width) or 0, 0, 200))
    count = int(number(request, "max_line_count", (options and options.max_line_count) or 0, 0, 10))
    # A long one takes a tenth of a second.
    body = await asyncio.to_thread(render, transcript, form, width=width or None, count=count or None, version=version)
    headers = {VERSION: str(version)}
    return web.Response(body=body, content_type=CONTENT_TYPES[form], charset="utf-8", headers=headers)
