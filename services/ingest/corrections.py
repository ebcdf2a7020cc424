"""What a correction makes of a segment. Pure: the segment as it was heard, as it is now, and what its editor wants.

A word that stays keeps its times and its probability. Where an editor sends a text without times, it is aligned with
the words that are there: those that differ share the time of those in whose place they stand.
"""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from services.contracts.errors import Code, Problem
from services.contracts.transcript import Segment, Word
from services.contracts.versions import Corrected

LONGEST_WORD = 200
"""Characters."""
MOST_WORDS = 500
"""Words of one segment, which is half a minute at most."""
SLACK = 0.02
"""Seconds by which a word may lie outside its segment: players and editors count in frames."""
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates: what is shown would not be what is stored. Joiners and marks may stay."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A word as an editor sends it; seconds. `corrected` None: the editor does not say."""

    word: str
    start: float
    end: float
    corrected: bool | None = None


def by_words(index: int, heard: Segment, now: Segment, words: Sequence[Wanted]) -> Corrected:
    """The segment with exactly these words. Raises `Problem` CORRECTION."""
    _check(index, heard, now, words)
    made = tuple(_merged(heard, now, words))
    return Corrected(index=index, text="".join(word.word for word in made), words=made)


def by_text(index: int, heard: Segment, now: Segment, text: str) -> Corrected:
    """The segment with this text. Raises `Problem` CORRECTION."""
    if now.words or heard.words:
        return by_words(index, heard, now, list(_aligned(now if now.words else heard, clean(text))))
    cleaned = clean(text).strip()
    if len(cleaned) > LONGEST_WORD * MOST_WORDS:
        raise Problem(Code.CORRECTION, f"Segment {index}: the text is too long.")
    lead = " " if heard.text.startswith(" ") and cleaned else ""
    return Corrected(index=index, text=lead + cleaned)


def is_original(one: Corrected, heard: Segment) -> bool:
    """Whether this is the segment as it was heard."""
    return one.words == heard.words and one.text == heard.text


def clean(text: str) -> str:
    """Without control characters, line breaks and what turns the direction of writing round."""
    kept = (" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in text)
    return "".join(char for char in kept if char not in _DIRECTIONS)


def _check(index: int, heard: Segment, now: Segment, words: Sequence[Wanted]) -> None:
    if len(words) > MOST_WORDS:
        raise Problem(Code.CORRECTION, f"Segment {index}: more than {MOST_WORDS} words.")
    known = heard.words + now.words  # the engine's own may lie a little outside
    first = min([now.start, *(word.start for word in known)]) - SLACK
    last = max([now.end, *(word.end for word in known)]) + SLACK
    before = first
    for n, word in enumerate(words):
        here = f"Segment {index}, word {n}"
        if not word.word.strip() or len(word.word) > LONGEST_WORD:
            raise Problem(Code.CORRECTION, f"{here}: 1 to {LONGEST_WORD} characters.")
        if not (math.isfinite(word.start) and math.isfinite(word.end) and word.start <= word.end):
            raise Problem(Code.CORRECTION, f"{here}: it ends before it starts.")
        if word.start < before:
            reason = "before the word in front of it" if n else "before its segment"
            raise Problem(Code.CORRECTION, f"{here}: it starts {reason}.")
        if word.end > last:
            raise Problem(Code.CORRECTION, f"{here}: it ends after its segment.")
        before = word.start


def _merged(heard: Segment, now: Segment, words: Iterable[Wanted]) -> Iterator[Word]:
    originals = {_key(word): word for word in heard.words}
    bases = {_key(word): word for word in now.words}
    for wanted in words:
        key = _key(wanted)
        original, base = originals.get(key), bases.get(key)
        if original is not None:
            told = wanted.corrected if wanted.corrected is not None else base is not None and base.corrected
            yield original.model_copy(update={"corrected": told})
        elif base is not None:
            yield base
        else:
            under = [word.probability for word in heard.words if word.start < wanted.end and wanted.start < word.end]
            yield Word(
                word=wanted.word,
                start=round(max(0.0, wanted.start), 3),
                end=round(max(0.0, wanted.end), 3),
                probability=min(under, default=1.0),
                corrected=True,
            )


def _key(word: Word | Wanted) -> tuple[str, float, float]:
    return (word.word, round(word.start, 3), round(word.end, 3))


def _aligned(segment: Segment, text: str) -> Iterator[Wanted]:
    """The words of a text, with the times of those of the segment."""
    if any(word.word.startswith(" ") for word in segment.words[1:]) or len(segment.words) < 2 or " " in text.strip():
        yield from _by_spaces(segment, text)
    else:
        yield from _by_ends(segment, text.strip())


def _by_spaces(segment: Segment, text: str) -> Iterator[Wanted]:
    old, new = segment.words, text.split()
    if len(new) > MOST_WORDS:
        raise Problem(Code.CORRECTION, f"A text of more than {MOST_WORDS} words for one segment.")
    matcher = SequenceMatcher(None, [word.word.strip() for word in old], new, autojunk=False)
    for _, first, last, begin, end in matcher.get_opcodes():
        if old[first:last] and [word.word.strip() for word in old[first:last]] == new[begin:end]:
            yield from (Wanted(word.word, word.start, word.end) for word in old[first:last])
        elif last - first == end - begin:
            yield from (
                Wanted(f" {token}" if word.word.startswith(" ") else token, word.start, word.end)
                for word, token in zip(old[first:last], new[begin:end], strict=True)
            )
        else:
            yield from _spread([f" {token}" for token in new[begin:end]], *_span(segment, first, last))


def _by_ends(segment: Segment, text: str) -> Iterator[Wanted]:
    """Of a script without spaces: the words that stay at both ends, and what is between as one."""
    old = segment.words
    first, last = 0, len(old)
    while first < last and text.startswith(old[first].word.strip()):
        text = text[len(old[first].word.strip()) :]
        first += 1
    tail = last
    while last > first and text.endswith(old[last - 1].word.strip()):
        text = text[: len(text) - len(old[last - 1].word.strip())]
        last -= 1
    yield from (Wanted(word.word, word.start, word.end) for word in old[:first])
    if text:
        pieces = [text[at : at + LONGEST_WORD] for at in range(0, len(text), LONGEST_WORD)]
        yield from _spread(pieces, *_span(segment, first, last))
    yield from (Wanted(word.word, word.start, word.end) for word in old[last:tail])


def _span(segment: Segment, first: int, last: int) -> tuple[float, float]:
    """The time of these words; of none, the pause in which they would be."""
    words = segment.words
    if last > first:
        return words[first].start, words[last - 1].end
    start = words[first - 1].end if first else segment.start
    end = words[first].start if first < len(words) else segment.end
    return (start, max(start, end)) if first else (min(start, end), end)


def _spread(pieces: Sequence[str], start: float, end: float) -> Iterator[Wanted]:
    """These words one after the other over a time, the longer ones longer."""
    total, passed = sum(map(len, pieces)), 0
    for piece in pieces:
        begin = start + (end - start) * passed / total
        passed += len(piece)
        yield Wanted(piece, round(begin, 3), round(start + (end - start) * passed / total, 3))
