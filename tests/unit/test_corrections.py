"""A segment after its correction: which words keep their times, and which share those of others."""

import pytest

from services.contracts.errors import Problem
from services.contracts.transcript import Segment, Word
from services.ingest.corrections import MOST_WORDS, Wanted, by_text, by_words


def segment(*words: str) -> Segment:
    """A word a second, the next less probable than the one before."""
    made = [Word(word=w, start=n, end=n + 0.8, probability=round(0.9 - n / 10, 1)) for n, w in enumerate(words)]
    return Segment(start=0, end=len(words), text="".join(words), words=tuple(made))


HEARD = segment(" one", " two", " three", " four")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two three four", [(0, 0.8, 0), (1, 1.8, 0), (2, 2.8, 0), (3, 3.8, 0)]),
        ("one too three four", [(0, 0.8, 0), (1, 1.8, 1), (2, 2.8, 0), (3, 3.8, 0)]),
        ("one three four", [(0, 0.8, 0), (2, 2.8, 0), (3, 3.8, 0)]),
        ("one twothree four", [(0, 0.8, 0), (1, 2.8, 1), (3, 3.8, 0)]),
        ("one two and three four", [(0, 0.8, 0), (1, 1.8, 0), (1.8, 2, 1), (2, 2.8, 0), (3, 3.8, 0)]),
        ("one two three four five", [(0, 0.8, 0), (1, 1.8, 0), (2, 2.8, 0), (3, 3.8, 0), (3.8, 4, 1)]),
        ("", []),
    ],
)
def test_a_text_is_aligned(text: str, words: list[tuple[float, float, int]]) -> None:
    """Words that stay keep their times; changed ones share those of the words in whose place they stand."""
    made = by_text(0, HEARD, HEARD, text)
    assert made.text.strip() == text
    assert [(word.start, word.end, int(word.corrected)) for word in made.words] == words


def test_a_script_without_spaces() -> None:
    """What differs in the middle becomes one word over the time of those that it replaces."""
    heard = segment("東京", "都", "に", "住む")
    made = by_text(0, heard, heard, "東京市に住む")
    assert [word.word for word in made.words] == ["東京", "市", "に", "住む"]
    assert [word.corrected for word in made.words] == [False, True, False, False]
    assert (made.words[1].start, made.words[1].end) == (1, 1.8)


def test_a_segment_without_word_times_takes_text() -> None:
    """It stays without words: nobody knows when they were said."""
    heard = Segment(start=0, end=3, text=" all of it")
    made = by_text(0, heard, heard, "all\nof\x00 this")
    assert (made.text, made.words) == (" all of  this", ())


def test_a_merged_word_is_as_sure_as_the_least_sure_of_those_below() -> None:
    """And one in a pause, which nobody heard, is as sure as its editor."""
    made = by_words(0, HEARD, HEARD, [Wanted(" x", 0.5, 2.5), Wanted(" y", 2.85, 2.9)])
    assert [word.probability for word in made.words] == [0.7, 1.0]


def test_a_word_may_be_confirmed_and_doubted_again() -> None:
    """A word that nobody changed is marked when its editor says so, and only then."""
    wanted = [Wanted(word.word, word.start, word.end) for word in HEARD.words]
    confirmed = by_words(0, HEARD, HEARD, [Wanted(" one", 0, 0.8, True), *wanted[1:]])
    assert [word.corrected for word in confirmed.words] == [True, False, False, False]
    now = HEARD.model_copy(update={"words": confirmed.words})
    assert by_words(0, HEARD, now, wanted).words == confirmed.words
    assert by_words(0, HEARD, now, [Wanted(" one", 0, 0.8, False), *wanted[1:]]).words == HEARD.words


@pytest.mark.parametrize(
    "words",
    [
        [Wanted(" a", 1, 2), Wanted(" b", 0.5, 2)],
        [Wanted(" a", -1, 0.5)],
        [Wanted(" a", float("nan"), 1)],
        [Wanted(" a", 0, float("inf"))],
        [Wanted(" a", 0, 0.1)] * (MOST_WORDS + 1),
    ],
)
def test_times_that_cannot_be(words: list[Wanted]) -> None:
    """Words go forwards, inside their segment."""
    with pytest.raises(Problem, match="correction_invalid"):
        by_words(0, HEARD, HEARD, words)
