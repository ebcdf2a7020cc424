"""POST /events/store: the object store says that something was put into it."""

import hmac
import json
from collections.abc import Callable, Collection

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.ingest.http.route import Answer, Param, Route
from services.ingest.limits import Bodies
from services.ingest.settings import Settings
from services.ingest.store_events import tenants_of

LARGEST = 4 << 20
"""Bytes of an event: SeaweedFS tells of every chunk of a large object."""


class StoreEvents:
    """Hands tenants with something new to `wake`. Only the store, which knows the token, is heard."""

    def __init__(self, wake: Callable[[Collection[str]], None], bodies: Bodies, settings: Settings) -> None:
        self._wake = wake
        self._bodies = bodies
        self._token = settings.store_events_token.get_secret_value().encode()

    def routes(self) -> list[Route]:
        """The one route."""
        return [
            Route(
                "POST",
                "/events/store",
                self.hear,
                "For the object store: something was put into the bucket `drop`",
                answers={204: Answer("Heard")},
                params=(Param("Authorization", "`Bearer` and the token of `DESIFRE_STORE_EVENTS_TOKEN`", "header"),),
                free_query=True,
                errors=(Code.WRONG_KEY, Code.MALFORMED, Code.TOO_LARGE, Code.UPLOAD_SLOW, Code.LENGTH_MISMATCH),
            )
        ]

    async def hear(self, request: web.Request) -> web.Response:
        """An event that tells of nothing new is heard as well: our own writes are among them."""
        shown = request.headers.get("Authorization", "").encode()
        if not self._token or not hmac.compare_digest(shown, b"Bearer " + self._token):
            raise Problem(Code.WRONG_KEY)
        try:
            event = json.loads(await self._bodies.small(request, LARGEST))
        except (ValueError, RecursionError):
            raise Problem(Code.MALFORMED, "The body is not JSON.") from None
        if tenants := tenants_of(event):
            self._wake(tenants)
        return web.Response(status=204)
