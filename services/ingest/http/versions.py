"""Corrections: a corrected transcript is a new version beside the others."""

import asyncio
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.versions import Version
from services.ingest.corrections import MOST_WORDS, Wanted, clean
from services.ingest.http.answers import answer, invalid
from services.ingest.http.body import json_body
from services.ingest.http.route import Answer, Body, Param, Route, claims
from services.ingest.limits import Bodies
from services.ingest.versions import Edit, Versions

LARGEST = 8 << 20
"""Bytes of a correction."""
_JOB = Param("job", "id of the job", "path")


class WantedWord(BaseModel):
    """A word as it shall be. Seconds in the recording."""

    model_config = ConfigDict(extra="ignore")  # so that a word may be sent back as it was read

    word: str = Field(description="with the space before it, where its script has one")
    start: float
    end: float
    corrected: bool | None = Field(None, description="true: it is as it shall be, although nothing was changed")


class SegmentEdit(BaseModel):
    """What becomes of one segment: `words` or `text`."""

    model_config = ConfigDict(extra="forbid")

    index: int = Field(ge=0, description="its place in `segments` of the transcript")
    words: Annotated[list[WantedWord], Field(max_length=MOST_WORDS)] | None = Field(
        None, description="all its words; a new or changed one is marked as corrected"
    )
    text: str | None = Field(None, description="its whole text; words that stay keep their times")


class Correction(BaseModel):
    """Corrections of a version."""

    model_config = ConfigDict(extra="forbid")

    base: int | None = Field(None, ge=0, description="the version that is corrected; or `If-Match`")
    segments: list[SegmentEdit] = Field(min_length=1, description="those that change, each once")
    note: str | None = Field(None, max_length=200, description="a word about it, shown with the version")


class VersionView(BaseModel):
    """A corrected version."""

    version: int
    base: int = Field(description="the version that was corrected")
    created: float = Field(description="Unix seconds")
    by: str = Field(description="id of the key")
    note: str | None
    corrected: int = Field(description="words that are marked as corrected")
    segments: list[int] = Field(description="places of the segments that are not as the engine heard them")


class ListedVersion(BaseModel):
    """A version in the list."""

    version: int = Field(description="0 = as the engine heard it")
    created: float = Field(description="Unix seconds")


class VersionList(BaseModel):
    """All versions of a transcript, oldest first."""

    job_id: str
    latest: int
    versions: list[ListedVersion]


class VersionRoutes:
    """The three routes."""

    def __init__(self, versions: Versions, bodies: Bodies) -> None:
        self._versions = versions
        self._bodies = bodies

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        ended = (Code.JOB_NOT_FOUND, Code.NOT_FINISHED, Code.FAILED, Code.CANCELLED, Code.ERASED)
        return [
            Route(
                "POST",
                "/jobs/{job}/versions",
                self.correct,
                "Correct a transcript: a new version, beside those that are there",
                scope=Scope.SUBMIT,
                params=(_JOB, Param("If-Match", "the version that is corrected, in place of `base`", "header")),
                body=Body(json=Correction),
                answers={
                    200: Answer("Nothing was to be changed: the version that there is", VersionView),
                    201: Answer("The new version; `Location` says where to read it", VersionView),
                },
                errors=(
                    *(*ended, Code.MALFORMED, Code.TOO_LARGE, Code.CORRECTION, Code.VERSION_NOT_FOUND),
                    *(Code.VERSION_CONFLICT, Code.TOO_MANY_VERSIONS, Code.STORE_FULL),
                ),
            ),
            Route(
                "GET",
                "/jobs/{job}/versions",
                self.list_versions,
                "List the versions of a transcript",
                scope=Scope.READ,
                params=(_JOB,),
                answers={200: Answer("The versions, oldest first", VersionList)},
                errors=ended,
            ),
            Route(
                "GET",
                "/jobs/{job}/versions/{version}",
                self.look_at_version,
                "Look at a version: who corrected what",
                scope=Scope.READ,
                params=(_JOB, Param("version", "its number, from 1", "path", "integer")),
                answers={200: Answer("The version, without its words: those are a result", VersionView)},
                errors=(*ended, Code.VERSION_NOT_FOUND),
            ),
        ]

    async def correct(self, request: web.Request) -> web.StreamResponse:
        """A new version, durable."""
        who, job = claims(request), request.match_info["job"]
        wish, edits = await asyncio.to_thread(_read, await json_body(request, self._bodies, LARGEST))
        note = clean(wish.note).strip() if wish.note else None
        version, new = await self._versions.correct(who, job, _base(request, wish), edits, note or None)
        headers = {"Location": f"/jobs/{job}/result?version={version.version}"}
        return answer(_view(version), 201 if new else 200, headers)

    async def list_versions(self, request: web.Request) -> web.StreamResponse:
        """The numbers and times of all."""
        job = request.match_info["job"]
        found = await self._versions.listed(claims(request).tenant, job)
        listed = [ListedVersion(version=one.version, created=one.created) for one in found]
        return answer(VersionList(job_id=job, latest=found[-1].version, versions=listed))

    async def look_at_version(self, request: web.Request) -> web.StreamResponse:
        """What one of them changed."""
        number = version_number(request.match_info["version"])
        version = await self._versions.version(claims(request).tenant, request.match_info["job"], number or 0)
        return answer(_view(version))


def version_number(text: str) -> int | None:
    """A version by its number; None for `latest`. Raises `Problem` VERSION_NOT_FOUND."""
    if text == "latest":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(Code.VERSION_NOT_FOUND)
    return int(text)


def _read(document: dict[str, object]) -> tuple[Correction, list[Edit]]:
    try:
        wish = Correction.model_validate(document)
    except ValidationError as error:
        raise invalid(error, Code.MALFORMED) from None
    return wish, [_edit(segment) for segment in wish.segments]


def _base(request: web.Request, wish: Correction) -> int:
    tag = request.headers.get("If-Match", "").strip().strip('"')
    told = int(tag) if tag.isascii() and tag.isdigit() and len(tag) < 10 else wish.base
    if told is None or (wish.base is not None and wish.base != told):
        raise Problem(Code.MALFORMED, "`base`, or If-Match, says which version is corrected.")
    return told


def _edit(segment: SegmentEdit) -> Edit:
    if (segment.words is None) == (segment.text is None):
        raise Problem(Code.MALFORMED, f"Segment {segment.index}: either `words` or `text`.")
    if segment.words is None:
        return Edit(segment.index, text=segment.text)
    words = [Wanted(clean(word.word), word.start, word.end, word.corrected) for word in segment.words]
    return Edit(segment.index, words=words)


def _view(version: Version) -> VersionView:
    return VersionView(
        version=version.version,
        base=version.base,
        created=version.created,
        by=version.by,
        note=version.note,
        corrected=version.words,
        segments=[segment.index for segment in version.segments],
    )
