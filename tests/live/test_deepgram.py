"""Deepgram's own client against the service: a live stream, a recording, what is refused."""

import asyncio
import hashlib
import inspect
import itertools
from typing import Any

import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Configure

from services.contracts.errors import Code, Problem
from services.ingest.http import deepgram_form as form
from tests import media
from tests.doors.caller import Caller
from tests.live.speaker import PATIENCE
from tests.media import RATE
from tests.speech import amid_silence, spoken, word_errors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets", "ignore::DeprecationWarning:deepgram")
SAID = spoken("en")
SOUND = amid_silence(SAID, before=0.5, after=1.0)
PIECE = RATE // 5


def client(me: Caller) -> AsyncDeepgramClient:
    """A client that is told of no more than another address and key."""
    socket = me.base.replace("http", "ws", 1)
    here = DeepgramClientEnvironment(base=me.base, production=socket, agent=socket, agent_rest=me.base)
    return AsyncDeepgramClient(api_key=me.key or "", environment=here)


async def test_a_live_stream(me: Caller) -> None:
    """Interims, finals, SpeechStarted, UtteranceEnd and the Metadata that ends it; Finalize is answered."""
    told: list[Any] = []
    async with client(me).listen.v1.connect(
        model="nova-3", language="en-US", encoding="linear16", sample_rate=str(RATE), interim_results="true",
        utterance_end_ms="1000", vad_events="true", smart_format="true",
    ) as connection:  # fmt: skip
        data = SOUND.astype("<i2")
        for at in range(0, len(data), PIECE):
            await connection.send_media(data[at : at + PIECE].tobytes())
        await connection.send_keep_alive()
        await connection.send_configure(ListenV1Configure(keyterms=["fox"]))
        await connection.send_finalize()
        async with asyncio.timeout(PATIENCE):
            while not (told and getattr(told[-1], "from_finalize", False)):
                told.append(await connection.recv())
            await connection.send_close_stream()
            while told[-1].type != "Metadata":
                told.append(await connection.recv())
    results = [one for one in told if one.type == "Results"]
    finals = [one for one in results if one.is_final]
    text = " ".join(one.channel.alternatives[0].transcript for one in finals)
    assert word_errors(SAID, text) <= 0.2
    assert any(one.speech_final for one in finals)
    words = [word for one in finals for word in one.channel.alternatives[0].words]
    assert all(a.end <= b.end for a, b in itertools.pairwise(words))
    assert {one.type for one in told} == {"Results", "SpeechStarted", "UtteranceEnd", "ConfigureFailure", "Metadata"}
    for one in told:  # the client itself takes a message with anything missing
        assert {name for name, field in type(one).model_fields.items() if field.is_required()} <= one.model_fields_set
    assert abs(told[-1].duration - len(SOUND) / RATE) < 0.1
    assert told[-1].request_id == finals[0].metadata.request_id
    assert told[-1].sha256 == hashlib.sha256(SOUND.astype("<i2").tobytes()).hexdigest()


def test_every_parameter_is_known() -> None:
    """Whatever the client can ask for is done, changes nothing, or is refused by name and with a reason."""
    known = {*form.REFUSED, *form.AS_IS, *form.LIVE, *form.OPTIONS}
    api = AsyncDeepgramClient(api_key="none").listen.v1
    for ask in (api.connect, api.media.transcribe_file):
        asked = inspect.signature(ask).parameters.keys() - {"authorization", "request", "request_options"}
        assert asked <= known
        for name in asked & form.REFUSED.keys():
            with pytest.raises(Problem) as refused:
                form.known([(name, "true")])
            assert refused.value.code == Code.OPTION_REFUSED


async def test_what_is_no_message(me: Caller) -> None:
    """It is told as Deepgram tells it, and the stream goes on."""
    async with me.session.ws_connect(f"{me.base}/v1/listen", headers={"Authorization": f"Token {me.key}"}) as ws:
        for nothing in ("", "no JSON", "[]", '{"type": "Sing"}'):
            await ws.send_str(nothing)
            told = await ws.receive_json(timeout=PATIENCE)
            assert (told["type"], told["variant"]) == ("Error", "SchemaError")
        await ws.send_str('{"type": "CloseStream"}')
        assert (await ws.receive_json(timeout=PATIENCE))["type"] == "Metadata"


async def test_a_recording(me: Caller) -> None:
    """The words of a body, with their times and utterances; what cannot be is refused with its reason."""
    media_api = client(me).listen.v1.media
    found = await media_api.transcribe_file(request=media.encode(SOUND, "wav"), model="nova-3", utterances=True)
    best = found.results.channels[0].alternatives[0]  # type: ignore[union-attr, index]
    assert word_errors(SAID, best.transcript or "") <= 0.2
    assert best.words
    assert found.results.utterances  # type: ignore[union-attr]
    with pytest.raises(ApiError) as refused:
        await media_api.transcribe_file(request=b"RIFF", diarize=True)
    assert refused.value.status_code == 422
    with pytest.raises(ApiError) as fetched:
        await media_api.transcribe_url(url="https://example.com/talk.wav")
    assert "nothing is fetched" in str(fetched.value.body)


async def test_a_browser_shows_its_key_as_a_sub_protocol(me: Caller) -> None:
    """`token` beside the key opens a stream, a wrong one does not; the first bytes tell what comes."""
    address = f"{me.base}/v1/listen?model=tiny.en"
    async with me.session.ws_connect(address, protocols=("token", me.key or "")) as ws:
        assert ws.protocol == "token"
        await ws.send_bytes(media.silence(0.5).astype("<i2").tobytes())
        await ws.send_str('{"type": "CloseStream"}')
        message = await ws.receive_json(timeout=PATIENCE)
        assert message["type"] == "Metadata"
        assert (await ws.receive(timeout=PATIENCE)).data == 1000


async def test_a_stream_that_ends_badly_says_so(me: Caller) -> None:
    """What is no audio ends the stream with an Error before its Metadata, and what is still sent changes nothing."""
    async with me.session.ws_connect(f"{me.base}/v1/listen?model=tiny.en", protocols=("token", me.key or "")) as ws:
        # More than the largest page of an Ogg stream: in less of it the next one is looked for till the client is lost.
        await ws.send_bytes(b"OggS" + b"no audio" * 9000)
        await ws.send_str('{"type": "Finalize"}')
        told = await ws.receive_json(timeout=PATIENCE)
        while told["type"] != "Metadata":
            said = told
            told = await ws.receive_json(timeout=PATIENCE)
        assert (said["type"], said["variant"]) == ("Error", "not_audio")
