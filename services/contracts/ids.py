"""Identifiers: made by us, random, safe as a NATS token and as an S3 key segment."""

import re
import secrets
import time

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LOWER = "abcdefghijklmnopqrstuvwxyz0123456789"
_JOB = re.compile(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}")
_UPLOAD = re.compile(r"upl_[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHARE = re.compile(r"shr_[0-9a-f]{16}")
_TENANT = re.compile(r"[a-z0-9]{16}")


def new_tenant() -> str:
    """A tenant: 16 random characters (82 bits); the user's name is a label and never an identity."""
    return "".join(secrets.choice(_LOWER) for _ in range(16))


def new_job_id(now_ms: int | None = None) -> str:
    """`job_` and 26 characters of Crockford base32: 48 bits of Unix milliseconds, then 80 random bits.

    Sorts by time, like a ULID. `now_ms` is for tests and for ids that carry another object's time.
    """
    return job_id_from(time.time_ns() // 1_000_000 if now_ms is None else now_ms, secrets.randbits(80))


def job_id_from(now_ms: int, low80: int) -> str:
    """The job id of these milliseconds and these 80 bits (a bucket drop takes the bits from an HMAC)."""
    value = ((now_ms & ((1 << 48) - 1)) << 80) | (low80 & ((1 << 80) - 1))
    return "job_" + "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_upload_id() -> str:
    """`upl_` and what follows in a job id: a recording that its client puts into the store itself."""
    return "upl_" + new_job_id()[4:]


def job_time(job: str) -> float:
    """Unix seconds at which this id of a job, or of an upload, was made."""
    value = 0
    for char in job[4:14]:
        value = value << 5 | _CROCKFORD.index(char)
    return value / 1000


def is_job_id(text: str) -> bool:
    """Whether `text` has the shape of a job id."""
    return _JOB.fullmatch(text) is not None


def is_upload_id(text: str) -> bool:
    """Whether `text` has the shape of an upload's id."""
    return _UPLOAD.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    """Whether `text` has the shape of a tenant id."""
    return _TENANT.fullmatch(text) is not None


def new_share_id() -> str:
    """The id of a share, which its owner sees; not its token."""
    return "shr_" + secrets.token_hex(8)


def is_share_id(text: str) -> bool:
    """Whether `text` has the shape of a share's id."""
    return _SHARE.fullmatch(text) is not None


def new_request_id() -> str:
    """The id of one HTTP request, for logs and for the `x-request-id` header."""
    return "req_" + secrets.token_hex(10)
