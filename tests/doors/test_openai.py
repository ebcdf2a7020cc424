"""OpenAI's own client against the whole service: every parameter and format, errors by class, a stream."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from infra.stack import Stack
from tests import media
from tests.doors.caller import Caller
from tests.doors.openai_client import Clients, clients, talk


@pytest.fixture
async def client() -> AsyncIterator[Clients]:
    """Makes clients for one test."""
    async with clients() as make:
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
