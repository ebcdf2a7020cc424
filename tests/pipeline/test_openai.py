"""OpenAI's client hears what the real engine heard."""

import io

import numpy as np
import openai
import pytest

from tests import media, speech
from tests.doors.caller import Caller


async def test_openais_client_hears_what_was_said(me: Caller) -> None:
    """With real words: the text is right, each word is where it was said, and the stream is the text bit by bit."""
    said = speech.sample("en", "quick_brown_fox")
    parts = [speech.amid_silence(said, before=4.0, after=4.0) for _ in range(3)]
    recording = media.encode(np.concatenate(parts), "flac")

    def talk() -> tuple[str, io.BytesIO]:
        return "talk.flac", io.BytesIO(recording)

    async with openai.AsyncOpenAI(base_url=f"{me.base}/v1", api_key=me.key or "", max_retries=0) as client:
        speak = client.audio.transcriptions.create
        events = [event async for event in await speak(file=talk(), model="tiny.en", stream=True)]
        found = await speak(
            file=talk(), model="tiny.en", response_format="verbose_json", timestamp_granularities=["word"]
        )
    told = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(told) > 1
    assert "".join(told) == events[-1].text == found.text
    thrice = speech.Speech("en", said.samples, " ".join([said.text] * 3))
    assert speech.word_errors(thrice, found.text) <= 0.25, found.text
    assert found.language == "english"
    assert found.words is not None
    assert found.words[0].start == pytest.approx(4.0, abs=0.5)
    assert 0 < (found.words[0].model_extra or {})["probability"] <= 1
