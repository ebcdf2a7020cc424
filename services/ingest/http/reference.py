"""Parameters, bodies and errors that several routes have in common, as the reference shows them."""

from typing import Literal

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
    Param("callback_url", "an https address that is told of the job's end; in the query, the form or the JSON"),
    Param("callback_include", "`transcript`: the text too, if it is small"),
)
FORM_ERRORS = (
    *(Code.TOO_LARGE, Code.LENGTH_REQUIRED, Code.LENGTH_MISMATCH, Code.CHECKSUM, Code.UPLOAD_SLOW, Code.ENCODED),
    *(Code.MALFORMED, Code.NO_FILE, Code.EMPTY, Code.OPTION_UNKNOWN, Code.OPTION_VALUE, Code.OPTION_REFUSED),
    Code.CALLBACK_URL,
    *(Code.MODEL_UNKNOWN, Code.MODEL_AWAY, Code.LANGUAGE, Code.LANGUAGE_MODEL, Code.IDEMPOTENCY),
    *(Code.QUOTA, Code.TOO_MANY_JOBS, Code.STORE_FULL),
)
"""What a form with a recording may be refused with."""
SUBMIT_ERRORS = (
    *FORM_ERRORS,
    *(
        Code.JOB_NOT_FOUND,
        Code.NOT_FINISHED,
        Code.ERASED,
        Code.UPLOAD_NOT_FOUND,
        Code.UPLOAD_INCOMPLETE,
        Code.UPLOAD_USED,
    ),
)
"""What any submission may be refused with."""
FAILURES = (
    *(Code.NOT_AUDIO, Code.NO_TRACK, Code.NO_SOUND, Code.TOO_LONG, Code.MEDIA_LIMITS),
    *(Code.POISON, Code.INTERRUPTED, Code.ENGINE),
)
"""What a job may fail with, which POST /transcribe answers."""


class Submission(Options):
    """The fields of a form beside its file: the options, and who is told of the end."""

    model: str = Field(default="", max_length=200)
    callback_url: str | None = Field(default=None, description="told of the job's end; see the page on callbacks")
    callback_include: Literal["transcript"] | None = Field(default=None, description="the text too, if it is small")


class Again(Submission):
    """Do the recording of a job again with other options, or one that was put into the store: one of the two."""

    source: str | None = Field(default=None, description="id of the job")
    upload: str | None = Field(default=None, description="id of the upload")


SUBMISSION = Body(form=Submission, json=Again, recording=True)
