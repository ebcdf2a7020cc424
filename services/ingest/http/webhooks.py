"""Where a key's jobs call back by default, and the secret that signs."""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts import subjects
from services.contracts.auth import KeyInfo, KeyRef, NewSecret, Scope, SetCallback
from services.contracts.errors import Code, Problem
from services.ingest.auth import Authenticator
from services.ingest.callbacks.log import Deliveries
from services.ingest.callbacks.policy import Policy
from services.ingest.http.answers import answer
from services.ingest.http.body import json_body
from services.ingest.http.route import Answer, Body, Param, Route, claims
from services.ingest.limits import Bodies
from services.runtime.bus import Bus

_KEY = Param("key", "id of the key", "path")


class DefaultCallback(BaseModel):
    """Where the jobs of a key call back that name no other address."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(description="an https address; null = nowhere")


class WebhookRoutes:
    """The routes of a key's callbacks."""

    def __init__(self, bus: Bus, auth: Authenticator, bodies: Bodies, policy: Policy, log: Deliveries) -> None:
        self._bus = bus
        self._auth = auth
        self._bodies = bodies
        self._policy = policy
        self._log = log

    def routes(self) -> list[Route]:
        """Both, with what the reference says."""
        return [
            Route(
                "PUT",
                "/keys/{key}/callback",
                self.set_callback,
                "Say where the jobs of a key call back that name no other address",
                scope=Scope.KEYS,
                params=(_KEY,),
                body=Body(json=DefaultCallback),
                answers={200: Answer("The key as it now is", KeyInfo)},
                errors=(Code.KEY_NOT_FOUND, Code.CALLBACK_URL, Code.MALFORMED),
            ),
            Route(
                "POST",
                "/keys/{key}/webhook-secret",
                self.new_secret,
                "Make a new secret that signs the callbacks of a key",
                scope=Scope.KEYS,
                params=(_KEY,),
                answers={
                    201: Answer("The secret, shown this once; the one before signs beside it for a while", NewSecret)
                },
                errors=(Code.KEY_NOT_FOUND,),
            ),
        ]

    async def set_callback(self, request: web.Request) -> web.StreamResponse:
        """The address is checked here: what may be called is ingest's matter."""
        who = claims(request)
        try:
            wish = DefaultCallback.model_validate(await json_body(request, self._bodies))
        except ValidationError:
            raise Problem(Code.MALFORMED, "The body takes `url`, an address or null.") from None
        url = self._policy.check(wish.url) if wish.url else None
        ask = SetCallback(tenant=who.tenant, key_id=request.match_info["key"], url=url)
        key = await self._bus.request(subjects.KEYS_CALLBACK, ask, KeyInfo)
        self._auth.forget()
        if url is not None:
            await self._log.enable(who.tenant, url)  # who sets it anew wants it called again
        return answer(key)

    async def new_secret(self, request: web.Request) -> web.StreamResponse:
        """The only answer that ever holds it."""
        ref = KeyRef(tenant=claims(request).tenant, key_id=request.match_info["key"])
        return answer(await self._bus.request(subjects.KEYS_SIGN_ANEW, ref, NewSecret), 201)
