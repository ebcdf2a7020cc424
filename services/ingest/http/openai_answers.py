"""Transcripts and errors in the shape of OpenAI's API. Pure."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic_core import to_json

from services.contracts.errors import ERRORS, Code, Problem
from services.contracts.formats import CONTENT_TYPES, Format, render, spoken, verbose
from services.contracts.transcript import Segment, Transcript
from services.ingest.http.openai_form import SpeechForm
from services.ingest.problems import ErrorShape, problem_headers

LEAST_PROBABILITY = 1e-9
"""A word of probability 0 would have no logarithm."""

KNOWN: dict[Code, tuple[int, str]] = {
    Code.WRONG_KEY: (401, "invalid_api_key"),
    Code.MODEL_UNKNOWN: (404, "model_not_found"),
    Code.MODEL_AWAY: (404, "model_not_found"),
    Code.RATE_LIMIT: (429, "rate_limit_exceeded"),
    Code.QUOTA: (429, "insufficient_quota"),
}
"""Errors that OpenAI's clients know: by which status and code."""
PARAMETERS: dict[Code, str] = {
    Code.MODEL_UNKNOWN: "model",
    Code.MODEL_AWAY: "model",
    Code.LANGUAGE: "language",
    Code.LANGUAGE_MODEL: "language",
    **dict.fromkeys((Code.NO_FILE, Code.EMPTY, Code.TOO_LARGE, Code.TOO_LONG), "file"),
    **dict.fromkeys((Code.NOT_AUDIO, Code.NO_TRACK, Code.NO_SOUND, Code.MEDIA_LIMITS, Code.POISON), "file"),
}
"""The parameter that is wrong where the error itself names none."""


class OpenAIErrorDetail(BaseModel):
    """What went wrong: `code` is OpenAI's where it has one, else ours."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """An error as OpenAI's API says it."""

    error: OpenAIErrorDetail


class SpeechUsage(BaseModel):
    """What a request used."""

    type: str
    seconds: int


class SpeechAnswer(BaseModel):
    """A transcript in `json`. In `verbose_json` there are task, language, duration, segments and words beside it."""

    text: str
    usage: SpeechUsage


def speech(transcript: Transcript, form: SpeechForm) -> web.Response:
    """The transcript as this form asks for it. Takes a while for a long one: not for the event loop."""
    wanted = form.response_format
    match wanted:
        case Format.JSON:
            body = to_json(plain(transcript, form))
        case Format.VERBOSE_JSON:
            body = to_json(_verbose(transcript, form))
        case _:
            more = form.model_extra or {}
            width, count = (int(float(more.get(f"max_line_{rule}") or 0)) or None for rule in ("width", "count"))
            body = render(transcript, wanted, width=width, count=count)
    return web.Response(body=body, content_type=CONTENT_TYPES[wanted], charset="utf-8")


def plain(transcript: Transcript, form: SpeechForm) -> dict[str, Any]:
    """`json`: the text, what it used, and log probabilities if they are asked for."""
    answer: dict[str, Any] = {"text": transcript.text.strip(), "usage": usage(transcript)}
    answer |= {"channels": spoken(transcript)} if transcript.channels is not None else {}
    return answer | ({"logprobs": logprobs(transcript.segments)} if form.logprobs else {})


def _verbose(transcript: Transcript, form: SpeechForm) -> dict[str, Any]:
    left_out = {name for name, wanted in (("words", form.words), ("segments", form.segments)) if not wanted}
    answer = {name: value for name, value in verbose(transcript).items() if name not in left_out}
    # A string in every case: typed clients take no null here.
    answer["language"] = "english" if transcript.task == "translate" else answer["language"] or "unknown"
    return answer


def usage(transcript: Transcript) -> dict[str, Any]:
    """Whole seconds of audio, begun ones counted: tokens are nobody's measure here."""
    return {"type": "duration", "seconds": math.ceil(transcript.charged)}


def logprobs(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """One for each word, from its probability: a word is the token here."""
    return [
        {
            "token": word.word,
            "bytes": list(word.word.encode()),
            "logprob": round(math.log(max(word.probability, LEAST_PROBABILITY)), 6),
        }
        for segment in segments
        for word in segment.words
    ]


def status_of(code: Code) -> int:
    """The status by which OpenAI's SDK finds its exception class: what cannot be processed is a bad request there."""
    ours = ERRORS[code].status
    return KNOWN[code][0] if code in KNOWN else 400 if ours == 422 else ours


def error_body(problem: Problem) -> dict[str, Any]:
    """The error as a document, also inside a stream."""
    status, known = KNOWN.get(problem.code, (status_of(problem.code), problem.code.value))
    named = problem.more.get("options")
    param = str(named[0]) if isinstance(named, Sequence) and named else PARAMETERS.get(problem.code)
    message = " ".join(filter(None, (f"{problem.kind.title}.", problem.detail, problem.kind.remedy)))
    detail = OpenAIErrorDetail(message=message, type=_kind(status, known), param=param, code=known)
    return OpenAIError(error=detail).model_dump()


def _kind(status: int, code: str) -> str:
    if status == 429:
        return "insufficient_quota" if code == "insufficient_quota" else "requests"
    return "server_error" if status >= 500 else "invalid_request_error"


def _error(problem: Problem, _: str) -> web.Response:
    # The SDK guesses by status what is worth a retry: it would repeat a cancelled job, and give up a broken upload.
    retry = problem.kind.retryable and problem.code != Code.QUOTA
    return web.Response(
        status=status_of(problem.code),
        body=json.dumps(error_body(problem)).encode(),
        content_type="application/json",
        headers=problem_headers(problem) | {"x-should-retry": "true" if retry else "false"},
    )


OPENAI = ErrorShape("application/json", OpenAIError, status_of, _error)
"""How the routes below /v1 say what went wrong."""
