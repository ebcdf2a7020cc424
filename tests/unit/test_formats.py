"""Rendering a transcript: every format from one transcript, subtitles by line rules, nothing that breaks a player."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.formats import Format, cues, render
from services.contracts.transcript import Coverage, Ranges, Segment, Transcript, Word

NOTHING = Ranges(seconds=0.0)


def transcript(*segments: Segment) -> Transcript:
    """A finished transcript of these segments."""
    duration = segments[-1].end if segments else 0.0
    coverage = Coverage(decoded=duration, transcribed=duration, non_speech=NOTHING, failed=NOTHING, suspect=NOTHING)
    return Transcript(
        job="job_01M83PRRQKZGF5RJXYNWRWV2GN",
        model="base",
        task="transcribe",
        language="en",
        duration=duration,
        text="".join(segment.text for segment in segments),
        segments=segments,
        coverage=coverage,
    )


def segment(text: str, start: float = 0.0, step: float = 0.5) -> Segment:
    """A segment whose words follow each other every `step` seconds."""
    words = tuple(
        Word(word=f" {word}", start=start + n * step, end=start + (n + 1) * step, probability=0.9)
        for n, word in enumerate(text.split())
    )
    return Segment(start=start, end=words[-1].end if words else start, text=f" {text}", words=words)


def test_json_holds_what_the_old_service_answered() -> None:
    """`json` has text, model and words with times and probability, as the old service's callers read them."""
    body = json.loads(render(transcript(segment("hello world")), Format.JSON))
    assert body["text"] == "hello world"
    assert body["model"] == "base"
    assert body["words"] == [
        {"word": " hello", "start": 0.0, "end": 0.5, "probability": 0.9},
        {"word": " world", "start": 0.5, "end": 1.0, "probability": 0.9},
    ]
    assert body["coverage"]["decoded"] == 1.0


def test_verbose_json_has_openai_shape() -> None:
    """`verbose_json` names the language in English, numbers its segments and keeps words at the top."""
    body = json.loads(render(transcript(segment("hello world"), segment("again", 2.0)), Format.VERBOSE_JSON))
    assert body["language"] == "english"
    assert body["task"] == "transcribe"
    assert [one["id"] for one in body["segments"]] == [0, 1]
    assert {"seek", "start", "end", "text", "tokens", "temperature", "avg_logprob"} <= body["segments"][0].keys()
    assert [word["word"] for word in body["words"]] == ["hello", "world", "again"]
    assert body["usage"] == {"type": "duration", "seconds": 3}


def test_text_is_the_text() -> None:
    """`text` is the transcript's text and a line break."""
    assert render(transcript(segment("çok güzel")), Format.TEXT) == "çok güzel\n".encode()


def test_srt_is_numbered_with_commas() -> None:
    """SubRip has numbers from 1 and a comma before the milliseconds."""
    body = render(transcript(segment("one two"), segment("three", 3600.0)), Format.SRT).decode()
    assert body == ("1\n00:00:00,000 --> 00:00:01,000\none two\n\n2\n01:00:00,000 --> 01:00:00,500\nthree\n")


def test_vtt_begins_with_its_signature() -> None:
    """WebVTT begins with WEBVTT and has a point before the milliseconds."""
    body = render(transcript(segment("one two")), Format.VTT).decode()
    assert body == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\none two\n"


def test_tsv_counts_milliseconds() -> None:
    """TSV has a head, and times in whole milliseconds."""
    assert render(transcript(segment("one two")), Format.TSV) == b"start\tend\ttext\n0\t1000\tone two\n"


@pytest.mark.parametrize("form", [Format.SRT, Format.VTT, Format.TSV])
def test_an_empty_transcript_is_an_empty_file(form: Format) -> None:
    """A recording without words gives a valid file without cues."""
    assert b"-->" not in render(transcript(), form)


def test_lines_break_between_words() -> None:
    """With a width alone a segment stays one cue, whose lines are no longer than the width."""
    [cue] = cues(transcript(segment("the quick brown fox jumps over the lazy dog")), width=15)
    assert cue.lines == ("the quick brown", "fox jumps over", "the lazy dog")
    assert (cue.start, cue.end) == (0.0, 4.5)


def test_a_line_count_splits_cues_at_words() -> None:
    """With a count a cue holds so many lines, timed by its first and last word."""
    found = list(cues(transcript(segment("the quick brown fox jumps over the lazy dog")), width=15, count=2))
    assert [cue.lines for cue in found] == [("the quick brown", "fox jumps over"), ("the lazy dog",)]
    assert [(cue.start, cue.end) for cue in found] == [(0.0, 3.0), (3.0, 4.5)]


def test_without_word_times_a_segment_is_one_cue() -> None:
    """Where no word has a time a segment is wrapped and not split: its halves have no times."""
    plain = Segment(start=1.0, end=5.0, text=" the quick brown fox jumps over the lazy dog")
    [cue] = cues(transcript(plain), width=15, count=1)
    assert (cue.start, cue.end, len(cue.lines)) == (1.0, 5.0, 3)


def test_words_without_spaces_stay_together() -> None:
    """A script without spaces is joined as the model gave it."""
    words = tuple(Word(word=char, start=n, end=n + 1, probability=1) for n, char in enumerate("今日は"))
    [cue] = cues(transcript(Segment(start=0, end=3, text="今日は", words=words)), width=10)
    assert cue.lines == ("今日は",)


@pytest.mark.parametrize("form", [Format.SRT, Format.VTT])
def test_markup_in_speech_stays_text(form: Format) -> None:
    """Nothing that was said can become a tag or a time line of a subtitle file."""
    said = "a <script> b --> 00:00:00.000 c\n\n1 & d"
    body = render(transcript(Segment(start=0, end=1, text=said)), form).decode()
    assert "<script>" not in body
    assert body.count("-->") == 1


@pytest.mark.parametrize("said", ["=1+1", "+1", "-1", "@a"])
def test_tsv_holds_no_formula(said: str) -> None:
    """A cell that a spreadsheet would run is marked as text."""
    line = render(transcript(Segment(start=0, end=1, text=said)), Format.TSV).decode().splitlines()[1]
    assert line.split("\t")[2] == f"'{said}"


@given(st.text(max_size=60), st.integers(10, 80), st.integers(1, 4))
def test_subtitles_lose_no_word(said: str, width: int, count: int) -> None:
    """Whatever is said and whatever the rules, the cues hold every word in order within the width."""
    spoken = segment(" ".join(said.split()))
    found = list(cues(transcript(spoken), width=width, count=count))
    lines = [line for cue in found for line in cue.lines]
    assert " ".join(lines).split() == said.split()
    assert all(len(line) <= width or " " not in line for line in lines)
    assert all(len(cue.lines) <= count for cue in found)
