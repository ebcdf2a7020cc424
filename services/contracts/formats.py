"""A transcript in the formats that people use. Pure: one stored transcript gives any of them at any time.

Subtitles follow the rules of openai-whisper's writers: a cue for each segment, or, with a line width, lines broken
between words, and with a line count, cues of at most so many lines, timed by their first and last word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, groupby
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json

from services.contracts.languages import LANGUAGES
from services.contracts.transcript import Channel, Coverage, Segment, Transcript, Word

DEFAULT_LINE_WIDTH = 42
"""Characters of a subtitle line when only a line count is asked for (the common broadcast limit)."""


class Format(StrEnum):
    """The formats of a result."""

    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


CONTENT_TYPES: dict[Format, str] = {
    Format.JSON: "application/json",
    Format.VERBOSE_JSON: "application/json",
    Format.TEXT: "text/plain",
    Format.SRT: "application/x-subrip",
    Format.VTT: "text/vtt",
    Format.TSV: "text/tab-separated-values",
}


def _absent(value: object) -> bool:
    return value is None


class Said(Word):
    """A word in `json`."""

    channel: int | None = Field(default=None, description="as in `channels`; absent: mixed", exclude_if=_absent)


class Stretch(BaseModel):
    """A segment in `json`, where words stand in a list of their own."""

    start: float
    end: float
    text: str
    language: str | None
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    suspect: str | None = Field(description="why these words may be invented; null = nothing speaks against them")
    first_word: int = Field(description="its first word's place in `words`")
    word_count: int
    channel: int | None = Field(default=None, description="as in `channels`; absent: mixed", exclude_if=_absent)


class Voice(Channel):
    """A channel in `json`, where they were heard apart: its text and its words in one piece."""

    text: str
    words: list[Word]


class Document(BaseModel):
    """A transcript in `json`. Times are seconds in the recording."""

    job_id: str
    version: int = Field(description="0 = as the engine heard it; above: as people corrected it")
    text: str
    model: str
    task: str
    language: str | None
    language_probability: float | None
    duration: float
    words: list[Said]
    segments: list[Stretch]
    coverage: Coverage
    channels: list[Voice] | None = Field(
        default=None, description="with `channels=separate`; absent: mixed", exclude_if=_absent
    )


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: seconds, and lines of plain text."""

    start: float
    end: float
    lines: tuple[str, ...]
    label: str | None = None
    """Of the channel that says it."""


def render(
    transcript: Transcript, form: Format, *, width: int | None = None, count: int | None = None, version: int = 0
) -> bytes:
    """The transcript in `form`, UTF-8. `width` (characters) and `count` (lines in a cue) shape subtitles only."""
    match form:
        case Format.JSON:
            return document(transcript, version).model_dump_json().encode()
        case Format.VERBOSE_JSON:
            return to_json(verbose(transcript))
        case Format.TEXT:
            return _text(transcript).encode()
        case Format.SRT:
            blocks = (_block(cue, ",", _srt_text, n) for n, cue in enumerate(cues(transcript, width, count), 1))
            return "\n".join(blocks).encode()
        case Format.VTT:
            blocks = (_block(cue, ".", _vtt_text) for cue in cues(transcript, width, count))
            return "\n".join(("WEBVTT\n", *blocks)).encode()
        case Format.TSV:
            said = (segment for segment in transcript.segments if segment.text.strip())
            labels = transcript.labels
            lines = (f"{_ms(s.start)}\t{_ms(s.end)}\t{_cell(s.text)}{_last_cell(s, labels)}\n" for s in said)
            head = "start\tend\ttext" + ("\tchannel" if labels else "")
            return (head + "\n" + "".join(lines)).encode()


def document(transcript: Transcript, version: int = 0) -> Document:
    """`json`: the old service's `text`, `model` and `words`, and ours: language, segments, coverage.

    A word keeps the space before it where its script has one, so that the words put together are the text.
    """
    firsts = accumulate((len(segment.words) for segment in transcript.segments), initial=0)
    return Document(
        job_id=transcript.job,
        version=version,
        text=transcript.text.strip(),
        model=transcript.model,
        task=transcript.task,
        language=transcript.language,
        language_probability=transcript.language_probability,
        duration=transcript.duration,
        words=[Said(**dict(word), channel=s.channel) for s in transcript.segments for word in s.words],
        segments=[_stretch(segment, first) for segment, first in zip(transcript.segments, firsts, strict=False)],
        coverage=transcript.coverage,
        channels=None if transcript.channels is None else [_voice(transcript, one) for one in transcript.channels],
    )


def _voice(transcript: Transcript, channel: Channel) -> Voice:
    mine = [segment for segment in transcript.segments if segment.channel == channel.index]
    text = "".join(segment.text for segment in mine).strip()
    return Voice(**dict(channel), text=text, words=[word for segment in mine for word in segment.words])


def spoken(transcript: Transcript) -> list[dict[str, Any]]:
    """The channels in short, for OpenAI's formats: index, label and text."""
    voices = (_voice(transcript, one) for one in transcript.channels or ())
    return [{"index": one.index, "label": one.label, "text": one.text} for one in voices]


def _text(transcript: Transcript) -> str:
    """The text; of several channels a line for each turn, with who has it."""
    labels = transcript.labels
    if not labels:
        return transcript.text.strip() + "\n"
    said = (segment for segment in transcript.segments if segment.text.strip())
    turns = groupby(said, key=lambda segment: segment.channel)
    return "".join(f"{labels[who or 0]}: {_flat(''.join(s.text for s in turn))}\n" for who, turn in turns) or "\n"


def _stretch(segment: Segment, first: int) -> Stretch:
    own = {name: getattr(segment, name) for name in Stretch.model_fields if name in Segment.model_fields}
    return Stretch(**own, first_word=first, word_count=len(segment.words))


def verbose(transcript: Transcript) -> dict[str, Any]:
    """`verbose_json` as OpenAI's API answers it; `probability` of a word and `suspect` of a segment are additions."""
    answer: dict[str, Any] = {
        "task": transcript.task,
        "language": LANGUAGES.get(transcript.language or "", transcript.language),
        "duration": transcript.duration,
        "text": transcript.text.strip(),
        "segments": [
            {"id": n, "seek": round(segment.start * 100)} | segment.model_dump(exclude={"words"}, exclude_none=True)
            for n, segment in enumerate(transcript.segments)
        ],
        "words": [
            word.model_dump() | {"word": word.word.strip()} | ({} if s.channel is None else {"channel": s.channel})
            for s in transcript.segments
            for word in s.words
        ],
        "usage": {"type": "duration", "seconds": -int(-transcript.charged // 1)},
    }
    return answer if transcript.channels is None else answer | {"channels": spoken(transcript)}


def cues(transcript: Transcript, width: int | None = None, count: int | None = None) -> Iterator[Cue]:
    """The subtitles. A segment without word times stays one cue: nobody knows when its second half was said."""
    labels = transcript.labels
    for segment in transcript.segments:
        label = labels.get(segment.channel) if segment.channel is not None else None
        if not segment.text.strip():
            continue
        if width is None and count is None:
            yield Cue(segment.start, segment.end, (_flat(segment.text),), label)
            continue
        words = segment.words or _untimed(segment)
        lines = list(_lines(words, width or DEFAULT_LINE_WIDTH))
        size = count if count is not None and segment.words else len(lines)
        for first in range(0, len(lines), size):
            group = lines[first : first + size]
            yield Cue(group[0][0].start, group[-1][-1].end, tuple(_join(line) for line in group), label)


def _untimed(segment: Segment) -> tuple[Word, ...]:
    pieces = segment.text.split()
    return tuple(Word(word=f" {piece}", start=segment.start, end=segment.end, probability=0.0) for piece in pieces)


def _join(words: list[Word]) -> str:
    # Whisper's words bring the space before them, where their script has one.
    return _flat("".join(word.word for word in words))


def _lines(words: tuple[Word, ...], width: int) -> Iterator[list[Word]]:
    """Words in lines of at most `width` characters; a longer word has a line of its own."""
    line: list[Word] = []
    for word in words:
        if line and len(_join([*line, word])) > width:
            yield line
            line = []
        line.append(word)
    if line:
        yield line


def _flat(text: str) -> str:
    """On one line: a line break inside a cue would end it."""
    return " ".join(text.split())


def _vtt_text(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _srt_text(line: str) -> str:
    # SubRip has no escapes; players take <…> for markup and --> for a time line.
    return line.replace("-->", "→").replace("<", "‹").replace(">", "›")


def _cell(text: str) -> str:
    # A spreadsheet would run a cell that begins so as a formula (OWASP ASVS 1.2.10).
    text = _flat(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _last_cell(segment: Segment, labels: dict[int, str]) -> str:
    return f"\t{_cell(labels[segment.channel or 0])}" if labels else ""


def _block(cue: Cue, mark: str, escape: Callable[[str], str], number: int | None = None) -> str:
    head = f"{number}\n" if number is not None else ""
    times = f"{_clock(cue.start, mark)} --> {_clock(cue.end, mark)}"
    who = "" if cue.label is None else f"<v {escape(cue.label)}>" if mark == "." else f"{escape(cue.label)}: "
    return head + times + "\n" + who + "\n".join(escape(line) for line in cue.lines) + "\n"


def _clock(seconds: float, mark: str) -> str:
    ms = _ms(seconds)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{mark}{ms % 1000:03d}"


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
