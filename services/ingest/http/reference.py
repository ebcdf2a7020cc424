"""Parameters, bodies and errors that several routes have in common, as the reference shows them."""

from pydantic import Field

from services.contracts.errors import Code
from services.contracts.jobs import Options
from services.ingest.http.route import Body, Param

COMMON_ERRORS = (Code.UNAVAILABLE, Code.INTERNAL)
"""What any route may answer."""
KEY_ERRORS = (Code.NO_KEY, Code.WRONG_KEY, Code.SCOPE, Code.RATE_LIMIT)
"""What any route with a key may answer."""

SUBMIT_PARAMS = (
    Param("Idempotency-Key", "a word of yours: a repeat within 24 h is the same job", "header"),
    Param("x-content-sha256", "SHA-256 of the recording, hexadecimal, to be checked", "header"),
    Param("name", "the recording's file name, where the body is the recording itself"),
)
SUBMIT_ERRORS = (
    *(Code.TOO_LARGE, Code.LENGTH_REQUIRED, Code.LENGTH_MISMATCH, Code.CHECKSUM, Code.UPLOAD_SLOW, Code.ENCODED),
    *(Code.MALFORMED, Code.NO_FILE, Code.EMPTY, Code.OPTION_UNKNOWN, Code.OPTION_VALUE, Code.OPTION_REFUSED),
    *(Code.MODEL_UNKNOWN, Code.MODEL_AWAY, Code.LANGUAGE, Code.LANGUAGE_MODEL, Code.IDEMPOTENCY, Code.JOB_NOT_FOUND),
    *(Code.QUOTA, Code.TOO_MANY_JOBS, Code.STORE_FULL),
)
FAILURES = (
    *(Code.NOT_AUDIO, Code.NO_TRACK, Code.NO_SOUND, Code.TOO_LONG, Code.MEDIA_LIMITS),
    *(Code.POISON, Code.INTERRUPTED, Code.ENGINE),
)
"""What a job may fail with, which POST /transcribe answers."""


class Again(Options):
    """Do the recording of a job again, with other options."""

    source: str = Field(description="id of the job")
    model: str = Field(default="", description="as in a form")


SUBMISSION = Body(form=Options, json=Again, recording=True)
