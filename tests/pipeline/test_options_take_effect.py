"""Each option of a job, seen to change what the real engine answers."""

import pytest

from tests import media, speech
from tests.doors.caller import Caller
from tests.pipeline.answers import transcribe

ENGLISH = media.encode(speech.spoken("en").samples, "flac")
FRENCH = media.encode(speech.spoken("fr").samples, "flac")
SPANISH = media.encode(speech.sample("es", "pangrama").samples, "flac")
"""`El veloz murciélago hindú …`: rare words, of which `base` gets some wrong when it is not helped."""


async def test_translate(me: Caller) -> None:
    """`task=translate` gives English words for French speech, and keeps the language that was spoken."""
    answer = await transcribe(me, FRENCH, task="translate")
    assert (answer["task"], answer["language"]) == ("translate", "fr")
    words = {word["word"].strip(" ,.").lower() for word in answer["words"]}
    assert {"morning", "old"} & words
    assert not {"bonjour", "vieux", "juge"} & words


async def test_a_language_is_obeyed(me: Caller) -> None:
    """With `language` nothing is detected: English speech is written as if it were Spanish."""
    answer = await transcribe(me, ENGLISH, language="es")
    assert (answer["language"], answer["language_probability"]) == ("es", None)
    assert {segment["language"] for segment in answer["segments"]} == {"es"}
    assert speech.word_errors(speech.spoken("en"), answer["text"]) > 0.3


@pytest.mark.parametrize(
    "help_",
    [{"prompt": "Un murciélago hindú."}, {"initial_prompt": "Un murciélago hindú."}, {"hotwords": "murciélago"}],
)
async def test_prompt_and_hotwords_help_with_rare_words(me: Caller, help_: dict[str, str]) -> None:
    """A word that is heard wrongly is heard rightly once the prompt or the hotwords name it."""
    assert "murciélago" not in (await transcribe(me, SPANISH))["text"].lower()
    assert "murciélago" in (await transcribe(me, SPANISH, **help_))["text"].lower()


async def test_a_wider_beam_finds_a_likelier_text(me: Caller) -> None:
    """`beam_size=1` takes the first word that comes to mind, and ends less probable than five beams do."""
    one, five = await transcribe(me, SPANISH, beam_size="1"), await transcribe(me, SPANISH, beam_size="5")
    assert one["segments"][0]["avg_logprob"] < five["segments"][0]["avg_logprob"]


async def test_temperature(me: Caller) -> None:
    """A temperature is used as it is asked for; without one doubtless speech is decoded at zero."""
    assert {segment["temperature"] for segment in (await transcribe(me, ENGLISH))["segments"]} == {0.0}
    warm = await transcribe(me, ENGLISH, temperature="0.4")
    assert {segment["temperature"] for segment in warm["segments"]} == {0.4}


async def test_without_word_times(me: Caller) -> None:
    """`word_timestamps=false` gives segments with times and no words; subtitles can be had all the same."""
    answer = await transcribe(me, ENGLISH, word_timestamps="false")
    assert answer["words"] == []
    assert answer["segments"]
    assert speech.word_errors(speech.spoken("en"), answer["text"]) <= 0.15
    path = f"/jobs/{answer['job_id']}/result"
    subtitles = (await me("GET", path, params={"format": "srt", "max_line_width": "30"})).body.decode()
    assert max(map(len, subtitles.splitlines())) <= 30


async def test_without_voice_activity(me: Caller) -> None:
    """`vad=false` has the engine hear everything, silence before and after included, and the words are the same."""
    said = speech.sample("en", "quick_brown_fox")
    recording = media.encode(speech.amid_silence(said, before=4.0, after=3.0), "flac")
    answer = await transcribe(me, recording, vad="false")
    assert answer["coverage"]["transcribed"] == answer["duration"]
    assert speech.word_errors(said, answer["text"]) <= 0.15
    assert answer["words"][0]["start"] == pytest.approx(4.0, abs=0.7)


async def test_suppressed_tokens_are_not_said(me: Caller) -> None:
    """`suppress_tokens` with Whisper's token 13, the full stop, gives a text without any."""
    assert "." in (await transcribe(me, ENGLISH))["text"]
    assert "." not in (await transcribe(me, ENGLISH, suppress_tokens="-1,13"))["text"]


async def test_subtitle_lines_are_shaped_by_the_job(me: Caller) -> None:
    """`max_line_width` and `max_line_count` asked for at submission shape its subtitles from then on."""
    answer = await transcribe(me, ENGLISH, max_line_width="24", max_line_count="1")
    subtitles = (await me("GET", f"/jobs/{answer['job_id']}/result", params={"format": "vtt"})).body.decode()
    blocks = [block.splitlines() for block in subtitles.strip().split("\n\n")[1:]]
    assert len(blocks) >= 4
    assert all(len(block) == 2 and len(block[1]) <= 24 for block in blocks)
    assert " ".join(block[1] for block in blocks) == answer["text"]
