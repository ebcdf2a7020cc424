"""Sign-up, keys and usage: asked of the keys service over the bus."""

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts import subjects
from services.contracts.auth import (
    CreateKey,
    KeyInfo,
    KeyList,
    KeyRef,
    NewKey,
    Quota,
    Scope,
    Usage,
    UsageRequest,
)
from services.contracts.errors import Code, Problem
from services.ingest.auth import Authenticator
from services.ingest.http.answers import answer, invalid, number
from services.ingest.http.body import json_body
from services.ingest.http.route import Answer, Body, Param, Route, claims
from services.ingest.limits import Bodies, address_of
from services.ingest.settings import Settings
from services.runtime.bus import Bus

_KEY = Param("key", "id of the key", "path")


class SignUp(BaseModel):
    """A sign-up as JSON."""

    username: str = Field(description="a label; each sign-up is a tenant of its own")


class SignedUp(BaseModel):
    """A fresh tenant's first key, shown this once."""

    username: str
    api_key: str
    key_id: str
    quota: Quota


class Me(BaseModel):
    """A key as it was sent."""

    username: str
    key_id: str
    scopes: tuple[Scope, ...]
    expires: float | None = Field(description="Unix seconds")
    deprecated: bool = Field(description="it was rotated, and works a little longer")
    streams: int = Field(description="streams that may be open at once")


class AnotherKey(BaseModel):
    """What another key of a tenant shall be."""

    model_config = ConfigDict(extra="forbid")

    label: str | None = Field(None, description="your own name for it")
    scopes: tuple[Scope, ...] | None = Field(
        None, description="a list, of none that the asking key lacks; the usual ones unless said, see docs/keys.md"
    )
    expires_in: float | None = Field(None, description="seconds from now; DESIFRE_KEY_LIFETIME unless said")


class KeyRoutes:
    """The routes of keys."""

    def __init__(self, bus: Bus, auth: Authenticator, bodies: Bodies, settings: Settings) -> None:
        self._bus = bus
        self._auth = auth
        self._bodies = bodies
        self._proxies = settings.trusted_proxies

    def routes(self) -> list[Route]:
        """All of them, with what the reference says."""
        return [
            Route(
                "POST",
                "/generate-key",
                self.sign_up,
                "Sign up: a new tenant and its first key",
                params=(
                    Param("username", "in the query or in the body"),
                    Param("x-invite", "where sign-up needs an invitation", "header"),
                ),
                body=Body(json=SignUp),
                answers={200: Answer("The key, shown this once", SignedUp)},
                errors=(Code.USERNAME, Code.SIGNUP_CLOSED, Code.INVITE, Code.RATE_LIMIT, Code.MALFORMED),
            ),
            Route(
                "GET",
                "/keys",
                self.list_keys,
                "List your keys",
                scope=Scope.KEYS,
                answers={200: Answer("The keys, without their secrets", KeyList)},
            ),
            Route(
                "POST",
                "/keys",
                self.create,
                "Make another key",
                scope=Scope.KEYS,
                body=Body(json=AnotherKey),
                answers={201: Answer("The key, shown this once", NewKey)},
                errors=(Code.TOO_MANY_KEYS, Code.MALFORMED),
            ),
            Route(
                "POST",
                "/keys/{key}/rotate",
                self.rotate,
                "Replace a key; both work for a while",
                scope=Scope.KEYS,
                params=(_KEY, Param("overlap", "seconds for which the old key goes on working", kind="number")),
                answers={201: Answer("The new key, shown this once", NewKey)},
                errors=(Code.KEY_NOT_FOUND, Code.TOO_MANY_KEYS, Code.MALFORMED),
            ),
            Route(
                "DELETE",
                "/keys/{key}",
                self.revoke,
                "Revoke a key at once",
                scope=Scope.KEYS,
                params=(_KEY,),
                answers={200: Answer("The key as it now is", KeyInfo)},
                errors=(Code.KEY_NOT_FOUND,),
            ),
            Route(
                "GET",
                "/me",
                self.me,
                "Whose key this is, and what it may do",
                scope=Scope.READ,
                answers={200: Answer("The key that was sent", Me)},
            ),
            Route(
                "GET",
                "/usage",
                self.usage,
                "What you used of your quota",
                scope=Scope.READ,
                answers={200: Answer("Usage and quota", Usage)},
            ),
        ]

    async def sign_up(self, request: web.Request) -> web.StreamResponse:
        """A key for whoever asks, as far as keys allows it."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Problem(Code.SIGNUP_CLOSED, "A page of another origin may not ask for a key.")
        username = request.query.get("username")
        if username is None and request.content_type == "application/json":
            given = (await json_body(request, self._bodies)).get("username")
            username = given if isinstance(given, str) else None
        if username is None:
            raise Problem(Code.USERNAME, "There is none: say ?username=NAME, or send JSON with `username`.")
        ask = CreateKey(
            username=username,
            address=address_of(request, self._proxies),
            invite=request.headers.get("x-invite"),
        )
        new = await self._bus.request(subjects.KEYS_CREATE, ask, NewKey)
        return answer(SignedUp(username=new.username, api_key=new.api_key, key_id=new.key_id, quota=new.quota))

    async def list_keys(self, request: web.Request) -> web.StreamResponse:
        """The tenant's keys."""
        return answer(await self._bus.request(subjects.KEYS_LIST, KeyRef(tenant=claims(request).tenant), KeyList))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Another key of the tenant."""
        who = claims(request)
        try:
            wish = AnotherKey.model_validate(await json_body(request, self._bodies))
        except ValidationError as error:
            raise invalid(error, Code.MALFORMED) from None
        ask = CreateKey(
            tenant=who.tenant, by=who.key_id, label=wish.label, scopes=wish.scopes, expires_in=wish.expires_in
        )
        return answer(await self._bus.request(subjects.KEYS_CREATE, ask, NewKey), 201)

    async def rotate(self, request: web.Request) -> web.StreamResponse:
        """A new key in place of an old one."""
        who = claims(request)
        overlap = number(request, "overlap", 0, 0, 1e9) if "overlap" in request.query else None
        ref = KeyRef(tenant=who.tenant, key_id=request.match_info["key"], overlap=overlap, by=who.key_id)
        new = await self._bus.request(subjects.KEYS_ROTATE, ref, NewKey)
        self._auth.forget()
        return answer(new, 201)

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """End a key; this process forgets it before the answer goes out."""
        ref = KeyRef(tenant=claims(request).tenant, key_id=request.match_info["key"])
        revoked = await self._bus.request(subjects.KEYS_REVOKE, ref, KeyInfo)
        self._auth.forget()
        return answer(revoked)

    async def me(self, request: web.Request) -> web.StreamResponse:
        """The key that was sent."""
        return answer(Me.model_validate(claims(request), from_attributes=True))

    async def usage(self, request: web.Request) -> web.StreamResponse:
        """Usage and quota of the tenant."""
        return answer(await self._bus.request(subjects.KEYS_USAGE, UsageRequest(tenant=claims(request).tenant), Usage))
