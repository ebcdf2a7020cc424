"""OpenAI's own client beside the service's jobs: keys, retries, waiting, cancellation, and streams part by part."""

import asyncio
import io
import json
import math
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest

from services.contracts import objects
from services.contracts.parts import PartWords
from services.contracts.transcript import Segment, Word
from tests.doors.caller import LIMIT, Caller, Front
from tests.doors.openai_client import TALK, Clients, clients, talk


@pytest.fixture
async def client() -> AsyncIterator[Clients]:
    """Makes clients for one test."""
    async with clients() as make:
        yield make


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
    before = await attempts(front, me)
    waiting = asyncio.create_task(
        client(me, timeout=1.0, max_retries=50).audio.transcriptions.create(file=talk(), model="base"), name="client"
    )
    async with asyncio.timeout(150):
        while await attempts(front, me) < before + 2:
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
