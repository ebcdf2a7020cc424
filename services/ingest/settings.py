"""What an operator may set of ingest, beside what every process has."""

import re
from pathlib import Path
from typing import Literal

from limits import parse
from pydantic import Field, SecretStr, field_validator

from services.contracts.languages import language_code
from services.runtime.settings import Settings as Common


class Settings(Common):
    """Environment variables with the prefix `DESIFRE_`."""

    http_host: str = Field("127.0.0.1", description="address that ingest listens on")
    http_port: int = Field(3333, ge=0, le=65535, description="port that ingest listens on (0 = any free one)")
    default_model: str = Field("base", description="model of a job that names none")
    default_language: str | None = Field(
        None, description="language of a job that names none, as ISO 639-1 code; unset = detected"
    )
    model_aliases: dict[str, str] = Field(
        dict.fromkeys(("whisper-1", "gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"), ""),
        description="names of models below /v1, as a JSON object of name to model; an empty model is the default one",
    )
    transcribe_wait: float = Field(600, ge=0, description="seconds that POST /transcribe waits before it answers 202")
    longest_wait: float = Field(60, ge=0, description="most seconds that GET /jobs/{id}?wait= may ask for")
    max_upload: int = Field(2 << 30, gt=0, description="largest upload in bytes")
    max_uploads: int = Field(
        64, gt=0, description="uploads under way at once, a quarter of them of one tenant; more are told to come back"
    )
    upload_grace: float = Field(10, gt=0, description="seconds a body may idle before its rate counts")
    upload_rate: int = Field(16 << 10, gt=0, description="slowest rate in bytes/s that a body may come in at")
    store_public_endpoint: str | None = Field(
        None,
        description="address at which clients reach the store, `https://host[:port]`, for presigned uploads; "
        "unset = the store's own, which with `desifre up` only this machine reaches",
    )
    presigned_expires: int = Field(3600, ge=1, le=3600, description="seconds for which a presigned URL works, at most")
    presigned_after: float = Field(
        43_200,
        gt=3600,
        le=82_800,
        description="age in seconds at which a presigned upload is removed, with what was put there",
    )
    rate_limit: str = Field("3000/minute", description="requests of one tenant, as `N/second`, `N/minute` or `N/hour`")
    refusal_limit: str = Field(
        "120/minute", description="requests of one address with no key or a wrong one (the loopback address is free)"
    )
    share_limit: str = Field("600/minute", description="requests by the link of one share; a player makes many")
    share_longest: float = Field(90 * 86_400, ge=60, description="seconds for which a share may be good, at most")
    trusted_proxies: tuple[str, ...] = Field(
        (), description="addresses of proxies whose X-Forwarded-For is believed, as a JSON list"
    )
    key_in_path: bool = Field(True, description="whether a key may stand in `/ws/{api_key}`; a ticket always may")
    stream_origins: tuple[str, ...] = Field(
        (), description="origins whose pages may open sockets, as a JSON list; the service's own always may, `*` = all"
    )
    live_max_seconds: float = Field(
        4 * 3600.0, gt=0, le=5 * 3600, description="a live session is ended when it has lasted so long"
    )
    stream_idle: float = Field(
        60, gt=0, description="seconds for which a socket without a watch and without a live session may be silent"
    )
    stream_backlog: int = Field(
        1 << 20, gt=0, description="bytes of events that wait for one slow reader, before it is told to watch again"
    )
    stream_watches: int = Field(1000, gt=0, description="watches on one socket")
    page_dir: Path | None = Field(
        None,
        description="folder whose files are served in place of the page's own, read anew at every request; "
        "for who works on the page",
    )
    public_url: str = Field("", description="address at which clients reach the service, for the URLs in callbacks")
    callback_http: bool = Field(False, description="whether callbacks may go to http:// addresses (port 80)")
    callback_hosts: tuple[str, ...] = Field(
        (), description="exact `host:port` of receivers that may have inner addresses and other ports, as a JSON list"
    )
    callback_timeout: float = Field(15, gt=0, le=60, description="seconds that a receiver has to answer")
    callback_retries: tuple[float, ...] = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="seconds before each further call of a receiver that did not take one, as a JSON list",
    )
    drop_every: float = Field(60, gt=0, description="seconds between two looks into the bucket `drop`")
    drop_originals: Literal["keep", "delete", "move"] = Field(
        "keep",
        description="what becomes of a dropped object whose transcript is there: keep, delete, move (to `done/`)",
    )
    drop_secret: SecretStr = Field(
        SecretStr(""),
        description="makes the ids of dropped objects' jobs; with another one every object becomes a new job",
    )
    store_events_token: SecretStr = Field(
        SecretStr(""), description="what the object store shows at POST /events/store; unset = nobody is heard there"
    )
    callback_lease: float = Field(
        20, gt=0, description="seconds after which another ingest takes over the callbacks of one that died"
    )
    stalled_after: float = Field(
        60, gt=0, description="seconds a job may stand still before what is missing is published"
    )
    reconcile_every: float = Field(15, gt=0, description="seconds between two looks for jobs that stand still")
    sweep_after: float = Field(
        86_400, gt=0, description="age in seconds at which a recording that never became a job is removed"
    )
    sweep_uploads_after: float = Field(
        2 * 86_400,
        gt=0,
        description="age in seconds at which an unfinished upload is removed; above the longest upload",
    )
    claim_abandoned_after: float = Field(
        600, gt=0, description="seconds after which a repeat no longer builds on an admission that broke off"
    )

    @field_validator("rate_limit", "refusal_limit", "share_limit")
    @classmethod
    def _limit(cls, limit: str) -> str:
        try:
            parse(limit)
        except ValueError:
            raise ValueError("this must be like 3000/minute") from None
        return limit

    @field_validator("store_public_endpoint")
    @classmethod
    def _address(cls, endpoint: str | None) -> str | None:
        if not endpoint:
            return None
        if not re.fullmatch(r"https?://[\w.:\[\]-]+/?", endpoint):
            raise ValueError("not of the form https://host[:port]")
        return endpoint.rstrip("/")

    @field_validator("default_language")
    @classmethod
    def _known(cls, language: str | None) -> str | None:
        if not language:
            return None
        code = language_code(language)
        if code is None:
            raise ValueError("not a language that Whisper knows")
        return code
