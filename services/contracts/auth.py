"""API keys as they travel, and the messages by which the services ask keys about them.

A key is `dsf_live_<id 8>_<secret 32 base62><crc 6>`. The bus never sees a key: ingest checks the CRC (so a typing
error costs nothing), sends the SHA-256 of the key, and keys compares an HMAC of that under its pepper.
"""

import hashlib
import re
import secrets
import zlib
from enum import StrEnum

from pydantic import Field

from services.contracts.jobs import Frozen

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_PATTERN = r"dsf_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}"
"""Published so that secret scanners find leaked keys."""
_KEY = re.compile(KEY_PATTERN)
_LEGACY = re.compile(r"tk_[0-9A-Za-z_\-]{8,200}")


class Scope(StrEnum):
    """What a key may do."""

    SUBMIT = "submit"
    READ = "read"
    DELETE = "delete"
    STREAM = "stream"
    KEYS = "keys:self"
    ADMIN = "admin"


DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ, Scope.DELETE, Scope.STREAM, Scope.KEYS)


def _crc(text: str) -> str:
    value, digits = zlib.crc32(text.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits


def new_key() -> tuple[str, str]:
    """A fresh `(key, key id)`: 190 random bits of secret."""
    key_id = "".join(secrets.choice(_BASE62) for _ in range(8))
    head = f"dsf_live_{key_id}_" + "".join(secrets.choice(_BASE62) for _ in range(32))
    return head + _crc(head), key_id


def well_formed(key: str) -> bool:
    """Whether this can be a key at all: our shape with a right CRC, or a key taken over from the old service."""
    if _KEY.fullmatch(key):
        return _crc(key[:-6]) == key[-6:]
    return _LEGACY.fullmatch(key) is not None


def fingerprint(key: str) -> str:
    """SHA-256 of a key, hexadecimal: what travels on the bus and what caches are keyed by."""
    return hashlib.sha256(key.encode()).hexdigest()


class Quota(Frozen):
    """What a tenant may use."""

    audio_seconds_per_day: float
    unfinished_jobs: int
    streams: int
    bytes: int = Field(description="stored sources")


class Claims(Frozen):
    """Who a verified key is and what it may do."""

    tenant: str
    key_id: str
    username: str
    scopes: tuple[Scope, ...]
    streams: int = Field(default=4, description="streams that its tenant may hold open at once")
    expires: float | None = Field(default=None, description="Unix seconds")
    deprecated: bool = Field(
        default=False, description="rotated: works until it expires, then the new one must be used"
    )
    callback_url: str | None = Field(default=None, description="where the key's jobs call back that name no other")


class Verify(Frozen):
    """Request on `keys.v1.verify`; the answer is `Claims`, or an error with a code of `errors.Code`."""

    fingerprint: str


NO_KEY_PAYS = "drop"
"""Stands for the key's id in jobs from the bucket whose tenant was bound before a key was named: the tenant pays."""


class Payer(Frozen):
    """Request on `keys.v1.payer`: which key pays for what lies in a tenant's part of the bucket `drop`.

    The answer is its `Claims`, with the key id NO_KEY_PAYS where none was named; or an error, `drop_key` when the key
    that was named is good for nothing any more, `wrong_key` when there is no such tenant.
    """

    tenant: str


class CreateKey(Frozen):
    """Request on `keys.v1.create`: a sign-up (no tenant: a new one is made) or another key of a tenant.

    The answer is `NewKey`.
    """

    username: str | None = None
    address: str | None = Field(default=None, description="the client's, for the limits; never stored whole")
    invite: str | None = None
    tenant: str | None = None
    label: str | None = None
    scopes: tuple[Scope, ...] | None = None
    expires_in: float | None = Field(default=None, description="seconds")
    by: str | None = Field(
        default=None, description="id of the key that asks for its tenant: it can hand on no scope that it lacks"
    )


class NewKey(Frozen):
    """The one time a key is shown."""

    api_key: str
    key_id: str
    tenant: str
    username: str
    scopes: tuple[Scope, ...]
    expires: float | None = None
    quota: Quota


class KeyInfo(Frozen):
    """A key as its owner sees it in a list."""

    key_id: str
    label: str | None = None
    scopes: tuple[Scope, ...]
    created: float
    last_used: float | None = None
    expires: float | None = None
    revoked: float | None = None
    deprecated: bool = False
    callback_url: str | None = Field(default=None, description="where its jobs call back that name no other")


class KeyRef(Frozen):
    """Request on `keys.v1.list` (without key_id), `keys.v1.rotate` and `keys.v1.revoke`.

    The answers are `KeyList`, `NewKey` and the `KeyInfo` of the key that was revoked.
    """

    tenant: str
    key_id: str | None = None
    overlap: float | None = Field(default=None, description="seconds both keys work after a rotation")
    by: str | None = Field(
        default=None, description="id of the key that asks: it cannot rotate a key that may do more than itself"
    )


class SetCallback(Frozen):
    """Request on `keys.v1.callback`: where the jobs of this key call back that name no other; None = nowhere.

    The answer is the key's `KeyInfo`. The URL was checked by who asks.
    """

    tenant: str
    key_id: str
    url: str | None = None


class NewSecret(Frozen):
    """Answer to `keys.v1.sign-anew` (request: `KeyRef`): the secret that signs a key's callbacks from now on.

    The one time it is shown. Those before it go on signing beside it for a while.
    """

    key_id: str
    secret: str = Field(description="`whsec_` and 32 bytes in base64, as Standard Webhooks has it")
    old_until: float | None = Field(default=None, description="Unix seconds until which the secret before it signs too")


class Secrets(Frozen):
    """Answer to `keys.v1.signing` (request: `KeyRef`): what signs this key's callbacks now, the newest first."""

    secrets: tuple[str, ...]


class Revoked(Frozen):
    """Message on `keys.revoked`: from now on this key is nothing."""

    key_id: str


class KeyList(Frozen):
    """Answer to `keys.v1.list`."""

    keys: tuple[KeyInfo, ...]


class UsageRequest(Frozen):
    """Request on `keys.v1.usage`."""

    tenant: str


class Usage(Frozen):
    """What a tenant used of its quota."""

    day: str = Field(description="UTC date that the quota of seconds counts in")
    seconds_today: float
    seconds_reserved: float
    unfinished_jobs: int
    bytes: int
    quota: Quota


class Admit(Frozen):
    """Request on `keys.v1.admit`: may this tenant submit? Registers the unfinished job; repeats are free.

    `release=True` undoes it for an admission that came to nothing.
    """

    tenant: str
    key_id: str
    job: str
    bytes: int
    release: bool = False


class Reserve(Frozen):
    """Request on `keys.v1.reserve` from prepare at each cut: its seconds so far. A maximum, so repeats are free."""

    tenant: str
    job: str
    seconds: float


class Granted(Frozen):
    """Answer to `keys.v1.admit` and `keys.v1.reserve`: done, or the code of the quota that stands against it."""

    ok: bool
    code: str | None = None
    detail: str | None = None
    retry_after: float | None = None
