"""From a request to an admitted job: a form with a file, a recording as the body, or one that is in the store."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from email.message import Message
from typing import Any

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.contracts.ids import is_job_id
from services.contracts.jobs import Door, Lane
from services.contracts.submit import TRACEPARENT
from services.ingest.admission import Admission, Admitted
from services.ingest.asked import Ask, Asked, Origin, trace_of
from services.ingest.callbacks.policy import Policy
from services.ingest.engines import Engines
from services.ingest.http.mistakes import FILE, named_wrongly, no_address, no_fields
from services.ingest.http.multipart import Multipart, Part
from services.ingest.http.names import clean_name
from services.ingest.http.route import claims
from services.ingest.limits import Bodies
from services.ingest.options import check, field_of, is_option, options_of
from services.ingest.presigned import Presigned
from services.ingest.settings import Settings
from services.ingest.uploads import too_large

Fields = list[tuple[str, str]]
"""The fields of a query and a form as they came in."""
Read = Callable[[Fields], Mapping[str, str]]
"""What fields ask for, as options of ours. Raises `Problem`."""
LARGE = 64 << 10
"""Bytes from which on a document is parsed in a thread."""
FORM_OVERHEAD = 1 << 20
"""Bytes that a form may have beside its file."""
CONTROLS = frozenset(("async", "name"))
"""Query parameters of a submission that are no options."""
SHA256 = "x-content-sha256"
"""Header with the SHA-256 of the recording, hexadecimal, if the client wants it checked."""


class Submissions:
    """Reads submissions in constant memory and hands them to admission."""

    def __init__(
        self,
        admission: Admission,
        presigned: Presigned,
        bodies: Bodies,
        engines: Engines,
        callbacks: Policy,
        settings: Settings,
    ) -> None:
        self._admission = admission
        self._presigned = presigned
        self._callbacks = callbacks
        self._bodies = bodies
        self._engines = engines
        self._settings = settings

    def waited_for(self, request: web.Request) -> AbstractContextManager[None]:
        """Around a request whose client waits for the words: a short one goes before large uploads."""
        return self._bodies.waited_for(request)

    async def admit(self, request: web.Request) -> Admitted:
        """The job of this request, durable. Raises `Problem` with what is wrong with it, `Unavailable`."""
        query = await self._begin(request, once)
        if request.content_type == "application/json":
            return await self._again(request, query)
        with self._bodies.one(claims(request).tenant):
            if request.content_type.startswith("multipart/"):
                return await self._form(request, query, once)
            return await self._recording(request, once(query))

    async def admit_form(self, request: web.Request, read: Read) -> tuple[Admitted, Fields]:
        """The job of a form of another API, and its fields; `read` says which options they ask for."""
        fields = await self._begin(request, read)
        with self._bodies.one(claims(request).tenant):
            return await self._form(request, fields, read), fields

    async def admit_recording(self, request: web.Request, read: Read) -> Admitted:
        """The job of a recording that is the body, as another API has it; `read` says what the query asks for."""
        fields = await self._begin(request, read)
        if request.content_type == "application/json":
            raise Problem(Code.OPTION_REFUSED, "`url`: nothing is fetched; send the recording itself.", options=["url"])
        with self._bodies.one(claims(request).tenant):
            return await self._recording(request, read(fields))

    async def _begin(self, request: web.Request, read: Read) -> Fields:
        """The fields in the query, checked before anything else is read."""
        # The name of a form's file, or of a job's, is given with that.
        raw = not request.content_type.startswith("multipart/") and request.content_type != "application/json"
        controls = CONTROLS if raw else CONTROLS - {"name"}
        fields = [(name, value) for name, value in request.query.items() if name not in controls]
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Problem(Code.ENCODED)
        await self._check(read(fields))
        return fields

    async def _recording(self, request: web.Request, query: Mapping[str, str]) -> Admitted:
        options = await self._options(query)
        body = no_fields(self._bodies.body(request, self._bodies.largest), request.content_type)
        return await self._receive(request, body, request.content_length, options, request.query.get("name"))

    async def _form(self, request: web.Request, fields: Fields, read: Read) -> Admitted:
        length = request.content_length
        if length is None:
            raise Problem(Code.LENGTH_REQUIRED)
        if length > self._bodies.largest + FORM_OVERHEAD:
            raise too_large(self._bodies.largest)
        form = Multipart(self._bodies.body(request, length), _boundary(request))
        file = await _fields_until_file(form, fields)
        if file is None:
            raise Problem(Code.NO_FILE)
        await self._check(read(fields))

        async def options() -> Asked:
            # Called when the file has been read: fields may come after it.
            if await _fields_until_file(form, fields) is not None:
                raise Problem(Code.MALFORMED, "There is more than one file.")
            return await self._options(read(fields))

        recording = no_address(file.chunks(), file.filename)
        return await self._receive(request, recording, None, options, file.filename)

    async def _again(self, request: web.Request, query: Fields) -> Admitted:
        document = await json_body(request, self._bodies)
        source, upload = document.pop("source", None), document.pop("upload", None)
        if not isinstance(source or upload, str) or (source and upload):
            raise Problem(
                Code.MALFORMED,
                "JSON holds either `source`, the id of a job to be done again, or `upload`, of an upload. "
                f"A recording itself comes in a form, as the field `{FILE}`, or is the body; nothing is fetched.",
            )
        if source and not is_job_id(source):
            raise Problem(Code.MALFORMED, "`source` is the id of a job (`job_…`); nothing is fetched from elsewhere.")
        options = await self._options(once([*query, *((name, field_of(value)) for name, value in document.items())]))
        if upload:
            return await self._presigned.use(claims(request), upload, options)
        return await self._admission.again(
            claims(request), source, options=options, idempotency_key=request.headers.get("Idempotency-Key")
        )

    async def _receive(
        self,
        request: web.Request,
        chunks: AsyncIterator[bytes],
        length: int | None,
        options: Asked | Ask,
        name: str | None,
    ) -> Admitted:
        return await self._admission.receive(
            claims(request),
            chunks,
            length=length,
            at_most=request.content_length,
            sha256=request.headers.get(SHA256),
            options=options,
            door=Door.HTTP,
            lane=Lane.INTERACTIVE,
            name=clean_name(name),
            idempotency_key=request.headers.get("Idempotency-Key"),
            origin=Origin(traceparent=trace_of(request.headers.get(TRACEPARENT))),
        )

    async def _check(self, fields: Mapping[str, str]) -> None:
        others, _ = self._callbacks.wish(fields)
        check(others, await self._engines.models())

    async def _options(self, fields: Mapping[str, str]) -> Asked:
        others, callback = self._callbacks.wish(fields)
        models = await self._engines.models()
        options = options_of(others, models, self._settings.default_model, self._settings.default_language)
        return Asked(options, callback)


async def json_body(request: web.Request, bodies: Bodies, most: int = 1 << 20) -> dict[str, Any]:
    """A JSON object from a body of at most `most` bytes; an absent body is an empty one. Raises `Problem` MALFORMED."""
    data = await bodies.small(request, most)
    try:
        # A large one takes tens of milliseconds: too long for the event loop.
        document = json.loads(data or b"{}") if len(data) < LARGE else await asyncio.to_thread(json.loads, data)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED, "The body is not JSON.") from None
    if not isinstance(document, dict):
        raise Problem(Code.MALFORMED, "The body is not a JSON object.")
    return document


async def _fields_until_file(form: Multipart, fields: list[tuple[str, str]]) -> Part | None:
    """Read fields up to the file, which is left to be read; None at the end of the form."""
    while (part := await form.next()) is not None:
        if part.name == FILE:
            return part
        if part.filename and not is_option(part.name):
            raise named_wrongly(part.name)
        fields.append((part.name, await part.text()))
    return None


def _boundary(request: web.Request) -> str:
    message = Message()
    message["Content-Type"] = request.headers.get("Content-Type", "")
    boundary = message.get_boundary()
    if request.content_type != "multipart/form-data" or not boundary or len(boundary) > 200:
        raise Problem(Code.MALFORMED, "A form is multipart/form-data with a boundary.")
    return boundary


def once(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields by name; one that is given twice must say the same twice."""
    fields: dict[str, str] = {}
    for name, value in items:
        if fields.setdefault(name, value) != value:
            raise Problem(Code.OPTION_VALUE, "An option is given twice, with different values.")
    return fields
