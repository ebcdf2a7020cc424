"""POST /uploads: URLs by which a client puts its recording straight into the store."""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts.auth import Scope
from services.contracts.errors import Code
from services.ingest.http.answers import answer, invalid
from services.ingest.http.body import json_body
from services.ingest.http.names import clean_name
from services.ingest.http.route import Answer, Body, Route, claims
from services.ingest.limits import Bodies
from services.ingest.presigned import SMALLEST_PART, Offer, Presigned


class UploadRequest(BaseModel):
    """What is going to be put."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(gt=0, description="bytes of the recording")
    sha256: str | None = Field(None, pattern="^[0-9A-Fa-f]{64}$", description="of the recording, to be checked")
    name: str | None = Field(None, max_length=1000, description="its file name")
    content_type: str | None = Field(
        None, pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=200, description="which every PUT must then send"
    )
    part_size: int | None = Field(
        None, ge=SMALLEST_PART, description="bytes of a part, for an upload in parts; unset = in one, up to 5 GiB"
    )
    expires_in: int | None = Field(None, ge=1, le=3600, description="seconds for which the URLs work")


class UploadPart(BaseModel):
    """One PUT: these bytes of the recording, in order, to this URL."""

    number: int
    size: int
    url: str


class UploadView(BaseModel):
    """An upload that may begin."""

    upload: str = Field(description="pass it as `upload` to POST /jobs when all parts are put")
    size: int
    headers: dict[str, str] = Field(description="to send with every PUT")
    parts: list[UploadPart] = Field(description="one, unless `part_size` asks for more")
    expires: float = Field(description="Unix seconds until which the URLs work")
    until: float = Field(description="Unix seconds at which the upload is removed if it is no job by then")


class UploadRoutes:
    """The one route; `POST /jobs` with `upload` does the rest."""

    def __init__(self, presigned: Presigned, bodies: Bodies) -> None:
        self._presigned = presigned
        self._bodies = bodies

    def routes(self) -> list[Route]:
        """The route, with what the reference says."""
        return [
            Route(
                "POST",
                "/uploads",
                self.begin_upload,
                "Get URLs to put a recording straight into the store",
                scope=Scope.SUBMIT,
                body=Body(json=UploadRequest),
                answers={201: Answer("Where to put the recording", UploadView)},
                errors=(Code.MALFORMED, Code.TOO_LARGE, Code.QUOTA, Code.TOO_MANY_JOBS, Code.STORE_FULL),
            )
        ]

    async def begin_upload(self, request: web.Request) -> web.StreamResponse:
        """The URLs."""
        try:
            asked = UploadRequest.model_validate(await json_body(request, self._bodies))
        except ValidationError as error:
            raise invalid(error, Code.MALFORMED) from None
        offer = await self._presigned.offer(
            claims(request),
            asked.size,
            sha256=asked.sha256,
            name=clean_name(asked.name),
            content_type=asked.content_type,
            part_size=asked.part_size,
            expires=asked.expires_in,
        )
        return answer(_view(offer), 201)


def _view(offer: Offer) -> UploadView:
    return UploadView(
        upload=offer.upload,
        size=offer.terms.size,
        headers=offer.headers,
        parts=[UploadPart(number=slot.number, size=slot.size, url=slot.url) for slot in offer.slots],
        expires=offer.expires,
        until=offer.until,
    )
