"""Shares: made, listed and revoked by the owner of a job, and opened by whoever has the link."""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.contracts.formats import Format
from services.contracts.versions import Share
from services.ingest import media, shares
from services.ingest.corrections import clean
from services.ingest.http import peaks, results
from services.ingest.http.answers import answer, invalid
from services.ingest.http.body import json_body
from services.ingest.http.download import download
from services.ingest.http.route import Answer, Body, Param, Route, claims
from services.ingest.jobs import Jobs
from services.ingest.limits import Bodies, RateLimits, address_of
from services.ingest.settings import Settings
from services.ingest.shares import Opened, Shares, Wish
from services.ingest.versions import Versions

_JOB = Param("job", "id of the job", "path")
_TOKEN = Param("token", "of the link", "path")
_PRIVATE = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class ShareRequest(BaseModel):
    """What a share shall be."""

    model_config = ConfigDict(extra="forbid")

    expires_in: float = Field(shares.USUAL, description="seconds for which it is good")
    with_audio: bool = Field(False, description="the recording can be heard, and so downloaded, too")
    title: str | None = Field(None, max_length=200, description="shown with it; the file name unless said")
    version: int | None = Field(None, ge=0, description="the one that it shows; always the latest unless said")


class ShareView(BaseModel):
    """A share."""

    share: str
    created: float = Field(description="Unix seconds")
    expires: float = Field(description="Unix seconds")
    with_audio: bool
    title: str | None
    version: int | None = Field(description="null: always the latest")


class NewShare(ShareView):
    """A share, with what opens it."""

    token: str = Field(description="shown this once")
    path: str = Field(description="of the page that shows it; put your address in front")


class ShareList(BaseModel):
    """The shares of a job that are good, oldest first."""

    job_id: str
    shares: list[ShareView]


class SharedView(BaseModel):
    """What a link leads to."""

    title: str | None
    duration: float = Field(description="seconds")
    language: str | None
    model: str
    version: int = Field(description="the one that is shown now")
    created: float = Field(description="Unix seconds at which it was shared")
    expires: float = Field(description="Unix seconds")
    with_audio: bool
    peaks: bool = Field(description="whether there is a waveform")


class ShareRoutes:
    """The routes of the owner, and those below /shared, which need no key but the token in their path."""

    def __init__(
        self, shares: Shares, versions: Versions, jobs: Jobs, bodies: Bodies, limits: RateLimits, settings: Settings
    ) -> None:
        self._shares = shares
        self._versions = versions
        self._jobs = jobs
        self._bodies = bodies
        self._limits = limits
        self._proxies = settings.trusted_proxies

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        ended = (Code.JOB_NOT_FOUND, Code.NOT_FINISHED, Code.FAILED, Code.CANCELLED, Code.ERASED)
        public = (Code.SHARE_NOT_FOUND, Code.RATE_LIMIT)
        return [
            Route(
                "POST",
                "/jobs/{job}/shares",
                self.share,
                "Make a link by which a transcript can be read without a key",
                scope=Scope.SUBMIT,
                params=(_JOB,),
                body=Body(json=ShareRequest),
                answers={201: Answer("The share; its token is shown this once", NewShare)},
                errors=(
                    *(*ended, Code.SHARE, Code.VERSION_NOT_FOUND, Code.TOO_MANY_SHARES),
                    *(Code.MALFORMED, Code.TOO_LARGE, Code.STORE_FULL),
                ),
            ),
            Route(
                "GET",
                "/jobs/{job}/shares",
                self.list_shares,
                "List the shares of a job",
                scope=Scope.READ,
                params=(_JOB,),
                answers={200: Answer("Those that are good", ShareList)},
                errors=ended,
            ),
            Route(
                "DELETE",
                "/jobs/{job}/shares/{share}",
                self.revoke_share,
                "Revoke a share at once",
                scope=Scope.SUBMIT,
                params=(_JOB, Param("share", "its id", "path")),
                answers={204: Answer("It is revoked", media=())},
                errors=(Code.JOB_NOT_FOUND, Code.SHARE_NOT_FOUND),
            ),
            Route(
                "GET",
                "/shared/{token}",
                self.shared,
                "Look at a shared transcript",
                params=(_TOKEN,),
                answers={200: Answer("What it is", SharedView)},
                errors=public,
            ),
            Route(
                "GET",
                "/shared/{token}/result",
                self.shared_result,
                "Read a shared transcript in any format",
                params=(_TOKEN, *results.PARAMS),
                answers={200: results.ANSWER},
                errors=(*public, *results.ERRORS),
            ),
            Route(
                "GET",
                "/shared/{token}/audio",
                self.shared_audio,
                "Hear the recording of a shared transcript, if it is shared with it; takes Range",
                params=(_TOKEN, Param("Range", "`bytes=FIRST-LAST`", "header")),
                answers={
                    200: Answer("The recording", media=media.TYPES),
                    206: Answer("The range asked for", media=media.TYPES),
                },
                errors=public,
            ),
            Route(
                "GET",
                "/shared/{token}/peaks",
                self.shared_peaks,
                "See the waveform of a shared recording",
                params=(_TOKEN, *peaks.PARAMS),
                answers={200: peaks.ANSWER},
                errors=(*public, *peaks.ERRORS),
            ),
        ]

    async def share(self, request: web.Request) -> web.StreamResponse:
        """A new share."""
        who, job = claims(request), request.match_info["job"]
        try:
            asked = ShareRequest.model_validate(await json_body(request, self._bodies))
        except ValidationError as error:
            raise invalid(error, Code.SHARE) from None
        if asked.version:
            await self._versions.version(who.tenant, job, asked.version)
        title = clean(asked.title).strip() if asked.title else None
        wish = Wish(asked.expires_in, asked.with_audio, title or None, asked.version)
        share, token = await self._shares.make(who, job, wish)
        return answer(NewShare(**_view(share).model_dump(), token=token, path=f"/s/{token}"), 201)

    async def list_shares(self, request: web.Request) -> web.StreamResponse:
        """The job's shares, without their tokens: nobody knows those any more."""
        job = request.match_info["job"]
        found = await self._shares.listed(claims(request).tenant, job)
        return answer(ShareList(job_id=job, shares=[_view(share) for share in found]))

    async def revoke_share(self, request: web.Request) -> web.StreamResponse:
        """End a share."""
        await self._shares.revoke(claims(request).tenant, request.match_info["job"], request.match_info["share"])
        return web.Response(status=204)

    async def shared(self, request: web.Request) -> web.StreamResponse:
        """What the link leads to."""
        opened = await self._open(request)
        try:
            transcript, version = await self._versions.transcript(opened.tenant, opened.job, opened.share.version)
            manifest = await self._jobs.manifest(opened.tenant, opened.job)
        except Problem as problem:
            raise _gone(problem) from None
        view = SharedView(
            title=opened.share.title or manifest.name,
            duration=transcript.duration,
            language=transcript.language,
            model=transcript.model,
            version=version,
            created=opened.share.created,
            expires=opened.share.expires,
            with_audio=opened.share.with_audio,
            peaks=opened.share.with_audio and await self._jobs.has_peaks(opened.tenant, opened.job),
        )
        return answer(view, headers=_PRIVATE)

    async def shared_result(self, request: web.Request) -> web.StreamResponse:
        """Its words."""
        form, opened = results.asked_format(request), await self._open(request)
        try:
            transcript, version = await self._versions.transcript(opened.tenant, opened.job, opened.share.version)
            options = None
            if form in (Format.SRT, Format.VTT):
                options = (await self._jobs.manifest(opened.tenant, opened.job)).options
        except Problem as problem:
            raise _gone(problem) from None
        nameless = transcript.model_copy(update={"job": ""})
        response = await results.result(request, form, nameless, version, options)
        response.headers.update(_PRIVATE)
        return response

    async def shared_audio(self, request: web.Request) -> web.StreamResponse:
        """Its sound."""
        opened = await self._open(request, audio=True)
        try:
            audio = await self._jobs.audio(opened.tenant, opened.job)
        except Problem as problem:
            raise _gone(problem) from None
        return await download(request, audio, opened.share.title)

    async def shared_peaks(self, request: web.Request) -> web.StreamResponse:
        """Its waveform."""
        opened = await self._open(request, audio=True)
        try:
            data = await self._jobs.peaks(opened.tenant, opened.job)
        except Problem as problem:
            raise _gone(problem) from None
        response = peaks.peaks(request, data)
        response.headers.update(_PRIVATE)
        return response

    async def _open(self, request: web.Request, *, audio: bool = False) -> Opened:
        """The share of the token in the path. Raises `Problem` SHARE_NOT_FOUND, RATE_LIMIT."""
        try:
            opened = await self._shares.open(request.match_info["token"])
        except Problem:
            await self._limits.refused(address_of(request, self._proxies))
            raise
        await self._limits.shared(opened.share.share)
        if audio and not opened.share.with_audio:
            raise Problem(Code.SHARE_NOT_FOUND)
        return opened


def _gone(problem: Problem) -> Problem:
    """What a stranger is told of a job that was erased: that there is no share."""
    return Problem(Code.SHARE_NOT_FOUND) if problem.code in (Code.ERASED, Code.JOB_NOT_FOUND) else problem


def _view(share: Share) -> ShareView:
    return ShareView.model_validate(share, from_attributes=True)
