"""From the model's alignment to words with times, and from words to segments: pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from services.contracts.transcript import Word
from services.transcriber.engine.protocol import Window

SENTENCE_ENDS = ".。!！?？"
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"
LONG_WORD = 0.7
"""The median duration of a word is taken to be at most this (faster-whisper, `add_word_timestamps`)."""
PAUSE = 0.3
SENTENCE_SECONDS = 5.0
"""A segment ends with a sentence where a pause follows, or when it has lasted this long."""
_DIGITS = 3


@dataclass(slots=True)
class Aligned:
    """A word with the seconds in its window that the alignment gave it."""

    word: str
    tokens: list[int]
    start: float
    end: float
    probability: float


def words_of(aligned: list[Aligned], window: Window) -> list[tuple[Word, list[int]]]:
    """Words with absolute times inside the window, in order, each with its tokens.

    Punctuation joins its neighbour, and words that the alignment stretched over a pause are shortened: both after
    faster-whisper's `merge_punctuations` and `add_word_timestamps`.
    """
    if not aligned:
        return []
    _shorten(aligned)
    words: list[tuple[Word, list[int]]] = []
    at = window.start
    for one in _merged(aligned):
        start = min(max(window.start + one.start, at), window.end)
        at = end = min(max(window.start + one.end, start), window.end)
        word = Word(
            word=one.word,
            start=round(start, _DIGITS),
            end=round(end, _DIGITS),
            probability=round(min(max(one.probability, 0.0), 1.0), 4),
        )
        words.append((word, one.tokens))
    return words


def sentences(words: Sequence[tuple[Word, list[int]]]) -> Iterator[list[tuple[Word, list[int]]]]:
    """Cut a window's words into segments at the ends of sentences, as subtitles and readers want them."""
    begin = 0
    for index, ((word, _), (following, _)) in enumerate(pairwise(words), start=1):
        ends = word.word.rstrip("\"'”)")[-1:] in SENTENCE_ENDS and word.word.strip() != ""
        if ends and (following.start - word.end >= PAUSE or word.end - words[begin][0].start >= SENTENCE_SECONDS):
            yield list(words[begin:index])
            begin = index
    if words:
        yield list(words[begin:])


def _shorten(aligned: list[Aligned]) -> None:
    """Take pauses away from the words beside them: at sentence ends, and at both ends of the window."""
    durations = [one.end - one.start for one in aligned if one.end > one.start]
    longest = 2 * min(LONG_WORD, median(durations)) if durations else 0.0
    for previous, one in pairwise(aligned):
        if one.end - one.start > longest:
            if one.word in SENTENCE_ENDS:
                one.end = one.start + longest
            elif previous.word in SENTENCE_ENDS:
                one.start = one.end - longest
    first, last = aligned[0], aligned[-1]
    first.start = max(first.start, first.end - longest)
    last.end = min(last.end, last.start + longest)


def _merged(aligned: Sequence[Aligned]) -> list[Aligned]:
    """Join marks that stand alone to the word before or after them, and white space to the word after it."""
    merged: list[Aligned] = []
    prefix: Aligned | None = None
    for one in aligned:
        mark = one.word.strip()
        if merged and prefix is None and mark and one.word in APPENDED and not merged[-1].word.endswith(" "):
            merged[-1].word += one.word
            merged[-1].tokens += one.tokens
            continue
        if prefix is not None:
            one = Aligned(prefix.word + one.word, prefix.tokens + one.tokens, one.start, one.end, one.probability)
            mark, prefix = one.word.strip(), None
        if not mark or (one.word.startswith(" ") and mark in PREPENDED):
            prefix = one
            continue
        merged.append(one)
    return [*merged, prefix] if prefix is not None and prefix.word.strip() else merged
