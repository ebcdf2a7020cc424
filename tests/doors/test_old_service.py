"""The old service's callers go on unchanged."""

import asyncio

import pytest

from infra.stack import Stack
from tests import media
from tests.doors import old_service

TALK = media.encode(media.talk(3.0), "wav")


async def test_a_key_and_then_the_words(stack: Stack) -> None:
    """A key by name, then a file with a model: the answer has every field that the old callers read, in seconds."""
    signed_up = await asyncio.to_thread(old_service.generate_key, stack.http_url, "ayse")
    assert {"username": "ayse", "api_key": signed_up["api_key"]}.items() <= signed_up.items()
    answer = await asyncio.to_thread(
        old_service.transcribe, stack.http_url, signed_up["api_key"], "talk.wav", TALK, model_type="base"
    )
    assert (answer["model"], answer["user"]) == ("base", "ayse")
    assert isinstance(answer["text"], str)
    assert 0 <= answer["queue_wait_time"] < 60
    assert 0 <= answer["processing_time"] < 60
    assert answer["words"]
    for word in answer["words"]:
        assert word.keys() == {"word", "start", "end", "probability"}
        assert 0 <= word["start"] <= word["end"] <= 3.0 + 0.05
        assert 0 <= word["probability"] <= 1


async def test_a_name_in_a_json_body(stack: Stack) -> None:
    """The name may come as JSON."""
    signed_up = await asyncio.to_thread(old_service.generate_key, stack.http_url, "ayse", as_json=True)
    assert signed_up["username"] == "ayse"


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("tk_wrong_wrong_wrong", 403), ("nonsense", 403)])
async def test_without_the_header_and_with_a_wrong_key(stack: Stack, key: str | None, status: int) -> None:
    """No key is 401, a wrong one 403."""
    with pytest.raises(old_service.Refused) as caught:
        await asyncio.to_thread(old_service.transcribe, stack.http_url, key, "talk.wav", TALK)
    assert caught.value.status == status
