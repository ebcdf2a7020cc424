"""What a submission asks for, and how it is written down in the job's manifest."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.contracts.auth import Claims
from services.contracts.callbacks import Callback
from services.contracts.jobs import Door, Lane, Manifest, Options


@dataclass(frozen=True, slots=True)
class Asked:
    """What a submission asks for beside its recording. No callback: the key's own, if it has one."""

    options: Options
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recording came from, beside the door: the fields of that name in its manifest."""

    external_id: str | None = None
    traceparent: str | None = None
    dropped: str | None = None
    etag: str | None = None


NO_ORIGIN = Origin()
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
Ask = Callable[[], Awaitable[Asked]]
"""Asked after the last byte of the recording: the fields of a form may follow its file."""


def trace_of(header: str | None) -> str | None:
    """The trace context (W3C) that a submission's header names; one that is none is left out, as the standard asks."""
    return header if header and _TRACE.fullmatch(header) else None


def ask_of(who: Claims, options: Options | Asked | Ask) -> Ask:
    """What is asked for, with the key's own callback where none is named."""

    async def ask() -> Asked:
        asked = Asked(options) if isinstance(options, Options) else options
        if not isinstance(asked, Asked):
            asked = await asked()
        if asked.callback is None and who.callback_url is not None:
            return Asked(asked.options, Callback(url=who.callback_url))
        return asked

    return ask


def manifest_of(
    who: Claims, job: str, asked: Asked, door: Door, lane: Lane, sha256: str, size: int, name: str | None
) -> Manifest:
    """The manifest of a submission whose recording is stored."""
    return Manifest(
        job=job,
        tenant=who.tenant,
        key_id=who.key_id,
        user=who.username,
        door=door,
        lane=lane,
        options=asked.options,
        sha256=sha256,
        size=size,
        name=name,
        created=time.time(),
        callback_url=asked.callback.url if asked.callback else None,
        callback_include=asked.callback.include if asked.callback else None,
    )
