"""OpenAI's own client against the service: every parameter and format, errors by class, retries, streams."""

import asyncio
import io
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import openai
import pytest

from infra.stack import Stack
from services.contracts import objects
from services.contracts.parts import PartWords
from services.contracts.transcript import Segment, Word
from tests import media
from tests.doors.caller import LIMIT, Caller, Front

TALK = media.encode(media.talk(3.0, seed=7), "wav")


Clients = Callable[..., openai.AsyncOpenAI]


def talk(data: bytes = TALK) -> tuple[str, io.BytesIO]:
    return "talk.wav", io.BytesIO(data)


@pytest.fixture
async def client() -> AsyncIterator[Clients]:
    """Makes OpenAI's clients, which are told of no more than another address and key."""
    async with AsyncExitStack() as made:

        def make(caller: Caller, **more: Any) -> openai.AsyncOpenAI:
            options = {"base_url": f"{caller.base}/v1", "api_key": caller.key or "none", "max_retries": 0} | more
            found = openai.AsyncOpenAI(**options)
            made.push_async_callback(found.close)
            return found

        yield make


@pytest.fixture
async def ai(stack: Stack, client: Clients) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client of a fresh tenant of the whole service."""
    async with aiohttp.ClientSession() as session:
        yield client(await Caller(session, stack.http_url).sign_up())


async def test_the_client_that_blocks(stack: Stack, ai: openai.AsyncOpenAI) -> None:
    """The synchronous client gets the text of its recording."""
    sync = openai.OpenAI(base_url=str(ai.base_url), api_key=ai.api_key, max_retries=0)
    with sync:
        found = await asyncio.to_thread(sync.audio.transcriptions.create, file=talk(), model="base")
    assert ":" in found.text
    assert found.usage is not None
    assert (found.usage.type, found.usage.seconds) == ("duration", 3)  # type: ignore[union-attr]


async def test_every_format(ai: openai.AsyncOpenAI) -> None:
    """Each `response_format` comes as the type that the client makes of it, from one and the same job."""
    speak = ai.audio.transcriptions.create
    plain = await speak(file=talk(), model="base")
    as_json = await speak(file=talk(), model="base", response_format="json")
    text = await speak(file=talk(), model="base", response_format="text")
    srt = await speak(file=talk(), model="base", response_format="srt")
    vtt = await speak(file=talk(), model="base", response_format="vtt")
    assert plain.text == as_json.text == text.strip()
    assert srt.startswith("1\n00:00:")
    assert vtt.startswith("WEBVTT\n\n00:00:")


async def test_verbose_json_holds_what_is_asked_for(ai: openai.AsyncOpenAI) -> None:
    """Segments unless said, words when asked for, both when both are; the language by its English name."""
    speak = ai.audio.transcriptions.create
    default = await speak(file=talk(), model="base", response_format="verbose_json")
    assert (default.language, default.words) == ("english", None)
    assert default.duration == pytest.approx(3.0, abs=0.05)
    assert default.segments is not None
    assert [segment.id for segment in default.segments] == list(range(len(default.segments)))
    assert default.usage is not None
    assert default.usage.seconds == 3
    words = await speak(
        file=talk(), model="base", response_format="verbose_json", timestamp_granularities=["word"], language="en"
    )
    assert words.segments is None
    assert words.words is not None
    assert words.words[0].word.strip() == words.words[0].word
    assert 0 <= words.words[0].start < words.words[0].end
    both = await speak(
        file=talk(), model="base", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert both.words
    assert both.segments


async def test_log_probabilities(ai: openai.AsyncOpenAI) -> None:
    """`include[]=logprobs` gives one for each word, the words together being the text."""
    found = await ai.audio.transcriptions.create(file=talk(), model="base", include=["logprobs"])
    assert found.logprobs is not None
    assert "".join(one.token or "" for one in found.logprobs).strip() == found.text
    assert found.logprobs[0].logprob == 0.0
    assert bytes(map(int, found.logprobs[0].bytes or ())).decode() == found.logprobs[0].token


async def test_every_parameter_is_taken(ai: openai.AsyncOpenAI) -> None:
    """All that the client can say is taken, options of ours too, and the job is what was asked for."""
    found = await ai.audio.transcriptions.create(
        file=talk(),
        model="whisper-1",
        language="tr",
        prompt="a talk",
        temperature=0,
        keywords=["desifre", "nats"],
        chunking_strategy="auto",
        response_format="verbose_json",
        timestamp_granularities=["segment"],
        extra_body={"beam_size": 2, "vad_filter": True},
    )
    assert found.language == "turkish"
    by_object = await ai.audio.transcriptions.create(
        file=talk(), model="base", chunking_strategy={"type": "server_vad"}, languages=["de"]
    )
    assert by_object.text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_translations_are_english(ai: openai.AsyncOpenAI) -> None:
    """A translation says that it is English, in every shape."""
    found = await ai.audio.translations.create(file=talk(), model="whisper-1", response_format="verbose_json")
    assert found.language == "english"
    assert (found.model_extra or {})["task"] == "translate"
    text = await ai.audio.translations.create(file=talk(), model="whisper-1", response_format="text", temperature=0.2)
    assert text.strip() == found.text


async def test_models_are_listed_with_their_other_names(ai: openai.AsyncOpenAI) -> None:
    """The list holds models and aliases; each can be looked at; one that is not there is not found."""
    listed = {model.id: model async for model in await ai.models.list()}
    assert {"base", "whisper-1"} <= listed.keys()
    assert (await ai.models.retrieve("whisper-1")).to_dict()["alias_of"] == "base"
    assert (await ai.models.retrieve("base")).owned_by == "desifre"
    with pytest.raises(openai.NotFoundError) as caught:
        await ai.models.retrieve("huge")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "kind", "code", "param"),
    [
        ({"model": "huge"}, openai.NotFoundError, "model_not_found", "model"),
        ({"response_format": "diarized_json"}, openai.BadRequestError, "option_not_supported", "response_format"),
        ({"response_format": "xml"}, openai.BadRequestError, "option_invalid", "response_format"),
        ({"response_format": "srt", "stream": True}, openai.BadRequestError, "option_invalid", "response_format"),
        ({"language": "xx"}, openai.BadRequestError, "language_unknown", "language"),
        ({"languages": ["de", "tr"]}, openai.BadRequestError, "option_not_supported", "languages"),
        ({"temperature": 3}, openai.BadRequestError, "option_invalid", "temperature"),
        ({"timestamp_granularities": ["letter"]}, openai.BadRequestError, "option_invalid", None),
        ({"known_speaker_names": ["Ada"]}, openai.BadRequestError, "option_not_supported", "known_speaker_names"),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "option_unknown", "colour"),
        ({"extra_body": {"best_of": 5}}, openai.BadRequestError, "option_not_supported", "best_of"),
        (
            {"chunking_strategy": {"type": "server_vad", "threshold": 0.5}},
            openai.BadRequestError,
            "option_not_supported",
            "threshold",
        ),
        ({"file": talk(b"this is no recording" * 100)}, openai.BadRequestError, "not_audio", "file"),
        ({"file": talk(b"this is no recording" * 99), "stream": True}, openai.BadRequestError, "not_audio", "file"),
        ({"file": talk(b"")}, openai.BadRequestError, "empty_file", "file"),
    ],
    ids=lambda value: json.dumps(value, default=str)[:40] if isinstance(value, dict) else None,
)
async def test_errors_are_the_clients_own(
    ai: openai.AsyncOpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str, param: str | None
) -> None:
    """What is wrong is raised as the class that a program written for OpenAI catches, with code, parameter and id."""
    with pytest.raises(kind) as caught:
        await ai.audio.transcriptions.create(**{"file": talk(), "model": "base"} | fields)
    assert caught.value.code == code
    assert param is None or caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_keys_are_refused_as_there(front: Front, me: Caller, client: Clients) -> None:
    """A wrong key is an AuthenticationError, one without the scope a PermissionDeniedError, too much a limit."""
    stranger = Caller(front.nobody.session, front.nobody.base, "sk-nonsense")
    with pytest.raises(openai.AuthenticationError) as wrong:
        await client(stranger).models.list()
    assert wrong.value.code == "invalid_api_key"
    made = (await me("POST", "/keys", json={"scopes": ["read"]})).json()
    reader = Caller(front.nobody.session, front.nobody.base, made["api_key"])
    with pytest.raises(openai.PermissionDeniedError) as narrow:
        await client(reader).audio.transcriptions.create(file=talk(), model="base")
    assert narrow.value.code == "scope_missing"
    with pytest.raises(openai.APIStatusError) as large:
        await client(me).audio.transcriptions.create(file=talk(b"x" * (LIMIT + 1)), model="base")
    assert (large.value.status_code, large.value.code) == (413, "too_large")


async def test_a_retry_after_a_timeout_is_the_same_job(front: Front, me: Caller, client: Clients) -> None:
    """A client that gives up waiting and sends everything again gets the words of the first attempt's job."""
    waiting = asyncio.create_task(
        client(me, timeout=1.0, max_retries=20).audio.transcriptions.create(file=talk(), model="base"), name="client"
    )
    async with asyncio.timeout(60):
        while await attempts(front, me) < 3:
            await asyncio.sleep(0.1)
        job = await front.newest(me)
        await front.complete(job, "said once")
        assert (await waiting).text == "said once"
    assert [one["job_id"] for one in (await me("GET", "/jobs")).json()["jobs"]] == [job]


async def attempts(front: Front, me: Caller) -> int:
    """How many requests for words the front was sent, by its metrics of those that came to their end."""
    text = (await front.nobody("GET", "/metrics")).body.decode()
    lines = [line for line in text.splitlines() if "http_request_seconds_count" in line and "transcriptions" in line]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


async def test_a_wait_that_is_over_is_tried_again(front: Front, me: Caller, client: Clients) -> None:
    """When the service has waited long enough it says so, and that a retry is right: the client then waits on."""
    soon = {"Prefer": "wait=0"}
    with pytest.raises(openai.ConflictError) as caught:
        await client(me).audio.transcriptions.create(file=talk(), model="base", extra_headers=soon)
    assert caught.value.code == "job_not_finished"
    assert caught.value.response.headers["x-should-retry"] == "true"
    await front.complete(await front.newest(me), "in the end")
    assert (await client(me).audio.transcriptions.create(file=talk(), model="base")).text == "in the end"


async def test_a_cancelled_job_is_not_tried_again(front: Front, me: Caller, client: Clients) -> None:
    """Whoever waits for a job that is cancelled is told so, once."""
    waiting = asyncio.create_task(
        client(me, max_retries=2).audio.transcriptions.create(file=talk(), model="base"), name="client"
    )
    job = await front.newest(me)
    await me("DELETE", f"/jobs/{job}")
    with pytest.raises(openai.ConflictError) as caught:
        await waiting
    assert caught.value.code == "job_cancelled"
    assert len((await me("GET", "/jobs")).json()["jobs"]) == 1


def part(n: int, *words: tuple[str, float]) -> PartWords:
    """A part with a segment for each word: its text and its start, each a second long."""
    segments = tuple(
        Segment(
            start=at, end=at + 1, text=text, words=(Word(word=text, start=at, end=at + 1, probability=math.exp(-n)),)
        )
        for text, at in words
    )
    return PartWords(n=n, language="en", segments=segments, transcribed=((words[0][1], words[-1][1] + 1),))


async def hear(front: Front, job: str, *parts: PartWords) -> None:
    """Do parts of a job as an engine does: words, then the bit."""
    tenant = await front.tenant_of(job)
    for one in parts:
        await front.blobs.put_once(objects.words(tenant, job, one.n), one.encode())
        await front.records.change(
            tenant, job, lambda r, n=one.n: r.model_copy(update={"parts": 3, "done": format(r.bits | 1 << n, "x")})
        )


async def test_a_stream_tells_each_part_when_it_is_done(front: Front, me: Caller, client: Clients) -> None:
    """Deltas come in the order of the recording, whichever part is done first, and together are the text at the end."""
    words = {"language": "en", "include": ["logprobs"]}
    stream = asyncio.create_task(
        client(me).audio.transcriptions.create(file=talk(), model="base", stream=True, **words), name="client"
    )
    job = await front.newest(me)
    await hear(front, job, part(1, (" two", 3.0), (" three", 4.0)))
    await hear(front, job, part(0, (" zero", 0.0), (" one", 1.0)))
    events = aiter(await stream)
    first = await anext(events)
    assert (first.type, first.delta) == ("transcript.text.delta", "zero")
    assert [one.logprob for one in first.logprobs] == [0.0]
    second = await anext(events)
    assert second.delta == " one two"
    await front.complete(job, "zero one two three")
    rest = [event async for event in events]
    assert [event.type for event in rest] == ["transcript.text.done"]
    assert rest[-1].text == "zero one two three"
    assert rest[-1].usage.to_dict() == {"type": "duration", "seconds": 4}


async def test_a_stream_ends_as_the_job_does(front: Front, me: Caller, client: Clients) -> None:
    """A job that fails in the middle of its stream is an APIError there, with the code of the failure."""
    creating = asyncio.create_task(
        client(me).audio.transcriptions.create(file=talk(), model="base", stream=True), name="client"
    )
    job = await front.newest(me)
    await hear(front, job, part(0, (" zero", 0.0), (" one", 1.0)))
    events = aiter(await creating)
    assert (await anext(events)).delta == "zero"
    await front.fail(job, "engine_failed", "The engine could not do it.")
    with pytest.raises(openai.APIError) as caught:
        await anext(events)
    assert caught.value.code == "engine_failed"


async def test_a_stream_of_the_whole_service(ai: openai.AsyncOpenAI) -> None:
    """Deltas put together are the text of the last event, which is the text of the plain answer."""
    recording = media.encode(media.talk(20.0, seed=3), "wav")
    events = [
        event async for event in await ai.audio.transcriptions.create(file=talk(recording), model="base", stream=True)
    ]
    told = "".join(event.delta for event in events[:-1])
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert told == events[-1].text
    assert told == (await ai.audio.transcriptions.create(file=talk(recording), model="base")).text


async def test_the_events_as_they_are_sent(front: Front, me: Caller) -> None:
    """The stream is events and a `[DONE]`, with the request's id, and nothing that a proxy may keep."""
    data = aiohttp.FormData()
    data.add_field("file", io.BytesIO(TALK), filename="talk.wav")
    data.add_field("stream", "true")
    sending = asyncio.create_task(me("POST", "/v1/audio/transcriptions", data=data), name="client")
    await front.complete(await front.newest(me), "hello")
    reply = await sending
    assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-request-id"].startswith("req_")
    assert reply.headers["Cache-Control"] == "no-store"
    *events, done, end = reply.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert [json.loads(event.removeprefix("data: "))["type"] for event in events] == [
        "transcript.text.delta",
        "transcript.text.done",
    ]
