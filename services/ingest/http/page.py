"""The page: `/`, a shared transcript's address, and the files that they load; nothing comes from outside."""

import asyncio

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.ingest.http.route import Answer, Param, Route
from services.ingest.page import INDEX, TYPES, Asset, Assets

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; font-src 'self'; "
    "media-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "microphone=(self), display-capture=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MEDIA = tuple(dict.fromkeys(kind.partition(";")[0] for kind in TYPES.values()))
_HTML = {200: Answer("The page", media=("text/html",))}


class PageRoutes:
    """The three routes. What is served is found in a list of names: no path is ever made from a request."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        token = Param("token", "of a share; it is read by the page, which asks below /shared", "path")
        return [
            Route("GET", "/", self.home, "The page", _HTML, free_query=True),
            Route(
                "GET",
                "/s/{token}",
                self.shared_page,
                "The page, showing a shared transcript",
                _HTML,
                params=(token,),
                free_query=True,
            ),
            Route(
                "GET",
                "/page/{file}",
                self.page_file,
                "A file of the page",
                {200: Answer("The file", media=_MEDIA), 304: Answer("It is the one that you have", media=())},
                params=(Param("file", "its name", "path"), Param("If-None-Match", "the ETag of before", "header")),
                errors=(Code.NOT_FOUND,),
                free_query=True,
            ),
        ]

    async def home(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        return await self._send(request, INDEX)

    async def shared_page(self, request: web.Request) -> web.StreamResponse:
        """The same page: whether the token is worth anything, it asks itself."""
        return await self._send(request, INDEX)

    async def page_file(self, request: web.Request) -> web.StreamResponse:
        """One of its files."""
        return await self._send(request, request.match_info["file"])

    async def _send(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = await asyncio.to_thread(self._assets.find, name) if self._assets.fresh else self._assets.find(name)
        if asset is None:
            raise Problem(Code.NOT_FOUND)
        return _answer(request, asset)


def _answer(request: web.Request, asset: Asset) -> web.Response:
    # `no-cache`: kept, and asked for again each time, so that a new version of the service is a new page at once.
    headers = {**HEADERS, "ETag": asset.etag, "Cache-Control": "no-cache"}
    known = (tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(","))
    if asset.etag in known:
        return web.Response(status=304, headers=headers)
    return web.Response(body=asset.data, headers={**headers, "Content-Type": asset.kind})
