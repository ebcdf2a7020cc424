"""A recording in a player: its waveform, and an address that a media element can play and seek in without a key."""

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.contracts.errors import Code, Problem
from services.ingest import media
from services.ingest.auth import Authenticator, require
from services.ingest.http import peaks
from services.ingest.http.answers import answer
from services.ingest.http.download import download
from services.ingest.http.route import Answer, Param, Route, claims, digest_of
from services.ingest.jobs import Jobs
from services.ingest.limits import RateLimits, address_of
from services.ingest.settings import Settings
from services.ingest.tickets import MEDIA_LIFETIME, MediaTickets

_JOB = Param("job", "id of the job", "path")


class MediaAddress(BaseModel):
    """Where a media element finds a recording."""

    url: str = Field(description="on this service; good for this recording alone")
    type: str = Field(description="media type of the recording")
    expires: float = Field(description="Unix seconds")


class MediaRoutes:
    """The three routes."""

    def __init__(
        self, jobs: Jobs, tickets: MediaTickets, auth: Authenticator, limits: RateLimits, settings: Settings
    ) -> None:
        self._jobs = jobs
        self._tickets = tickets
        self._auth = auth
        self._limits = limits
        self._proxies = settings.trusted_proxies

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        missing = (Code.JOB_NOT_FOUND, Code.ERASED)
        absent = (*missing, Code.NOT_FINISHED, Code.FAILED, Code.CANCELLED)
        return [
            Route(
                "GET",
                "/jobs/{job}/peaks",
                self.peaks,
                "See the waveform of a recording",
                scope=Scope.READ,
                params=(_JOB, *peaks.PARAMS),
                answers={200: peaks.ANSWER},
                errors=(*missing, *peaks.ERRORS),
            ),
            Route(
                "POST",
                "/jobs/{job}/media",
                self.address,
                f"Get an address for a media element, good for {MEDIA_LIFETIME / 3600:g} h while the key works",
                scope=Scope.READ,
                params=(_JOB,),
                answers={201: Answer("The address", MediaAddress)},
                errors=absent,
            ),
            Route(
                "GET",
                "/media/{ticket}",
                self.play,
                "Play a recording by such an address; takes Range",
                params=(
                    Param("ticket", "of the address", "path"),
                    Param("Range", "`bytes=FIRST-LAST`", "header"),
                ),
                answers={
                    200: Answer("The recording", media=media.TYPES),
                    206: Answer("The range asked for", media=media.TYPES),
                },
                free_query=True,
                errors=(*absent, Code.TICKET, Code.WRONG_KEY, Code.SCOPE, Code.RATE_LIMIT),
            ),
        ]

    async def peaks(self, request: web.Request) -> web.StreamResponse:
        """The waveform of a job's recording."""
        return peaks.peaks(request, await self._jobs.peaks(claims(request).tenant, request.match_info["job"]))

    async def address(self, request: web.Request) -> web.StreamResponse:
        """An address for one recording."""
        job = request.match_info["job"]
        audio = await self._jobs.audio(claims(request).tenant, job)
        ticket, until = await self._tickets.make(digest_of(request), job)
        return answer(MediaAddress(url=f"/media/{ticket}", type=audio.kind, expires=until), 201)

    async def play(self, request: web.Request) -> web.StreamResponse:
        """The recording, as long as the key that the ticket stands for works."""
        try:
            digest, job = await self._tickets.find(request.match_info["ticket"])
            who = await self._auth.known(digest)
        except Problem:
            await self._limits.refused(address_of(request, self._proxies))
            raise
        await self._limits.request(who.tenant)
        require(who, Scope.READ)
        return await download(request, await self._jobs.audio(who.tenant, job))
