"""The rules by which an answer of the model is doubted, and words come by their times."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contracts.transcript import Word
from services.transcriber.engine.doubt import Answer, better, repeats, stands_alone
from services.transcriber.engine.protocol import Window
from services.transcriber.engine.words import Aligned, sentences, words_of


def answer(text: str = " Hello there.", logprob: float = -0.2, no_speech: float = 0.0, capped: bool = False) -> Answer:
    return Answer((1, 2), text, logprob, no_speech, capped)


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("It is of the first importance. It is of the first importance!", True),
        ("he went to the shop and then to the bank", False),
        ("no no no", False),
        ("very very good, very very good indeed", True),
        ("これはペンですこれはペンです", True),
        ("これはペンです", False),
        ("", False),
    ],
)
def test_a_phrase_that_follows_upon_itself_is_seen(text: str, repeated: bool) -> None:
    """A phrase said twice in a row is a reason to hear again, whatever its punctuation; a doubled word is not."""
    assert repeats(text) is repeated
    assert answer(text).doubtful is repeated


def test_what_is_suspect_says_why() -> None:
    """Loops, improbable answers and answers amid no speech are marked with their reason; sound ones are not."""
    assert answer().suspicion is None
    assert answer("la " * 60).suspicion == "repetition"
    assert answer(capped=True).suspicion == "repetition"
    assert answer(logprob=-1.2).suspicion == "low_probability"
    assert answer(no_speech=0.7).suspicion == "no_speech"


def test_what_is_plainly_no_speech_is_dropped() -> None:
    """Only an answer that is both improbable and amid no speech is dropped, or one without any letter."""
    assert answer(logprob=-1.4, no_speech=0.7).silent
    assert answer(logprob=-0.6, no_speech=0.9).silent
    assert not answer(logprob=-0.3, no_speech=0.9).silent
    assert not answer(logprob=-3.0, no_speech=0.1).silent
    assert answer(" ...").silent


def test_the_sounder_answer_is_kept() -> None:
    """Of two answers the one that does not loop is kept, then the one without repeats, then the likelier."""
    loop, twice = answer("la " * 60, -0.1), answer("one two three one two three", -0.1)
    likely, unlikely = answer(logprob=-0.2), answer(logprob=-0.4)
    assert better(loop, unlikely) is unlikely
    assert better(unlikely, twice) is unlikely
    assert better(unlikely, likely) is likely


def test_odd_words_alone_in_silence_are_seen() -> None:
    """An improbable word is alone when the silence asked for lies on both sides of it, and not when a side is short."""
    window = Window(bytes(32000 * 10), 20.0)
    odd = Word(word=" you", start=25.0, end=25.05, probability=0.05)
    sound = Word(word=" well", start=25.0, end=25.4, probability=0.9)
    assert stands_alone([odd], window, 0, 1, 2.0)
    assert not stands_alone([sound], window, 0, 1, 2.0)
    assert not stands_alone([odd, sound.model_copy(update={"start": 26.0, "end": 26.4})], window, 0, 1, 2.0)


aligned = st.lists(
    st.tuples(
        st.sampled_from([" one", " two", ",", ".", ' "', " (", "ing", " naïve", "?", "", " "]),
        st.floats(-1, 40),
        st.floats(-1, 40),
        st.floats(-0.1, 1.1),
    ),
    max_size=25,
)


@given(aligned, st.sampled_from([0.0, 7.25, 3600.0]))
def test_words_are_ordered_inside_their_window(raw: list[tuple[str, float, float, float]], start: float) -> None:
    """However wild the alignment, words keep its text (less white space at its end), in order inside the window."""
    window = Window(bytes(32000 * 15), start)
    words = words_of([Aligned(w, [n], *rest) for n, (w, *rest) in enumerate(raw)], window)
    assert "".join(word.word for word, _ in words).rstrip() == "".join(w for w, *_ in raw).rstrip()
    for word, _ in words:
        assert start <= word.start <= word.end <= start + 15
        assert 0 <= word.probability <= 1
        assert word.word.strip()
    assert all(one.end <= other.start for (one, _), (other, _) in pairwise(words))
    assert [word for group in sentences(words) for word in group] == words


def test_punctuation_joins_its_word() -> None:
    """Marks that stand alone join the word before them, opening ones the word after them."""
    raw = [(" (", 0.0, 0.1), ("yes", 0.1, 0.4), (",", 0.4, 0.4), (' "', 0.5, 0.5), ("no", 0.5, 0.9), (".", 0.9, 1.2)]
    words = words_of([Aligned(w, [n], a, b, 0.5) for n, (w, a, b) in enumerate(raw)], Window(bytes(64000), 0.0))
    assert [word.word for word, _ in words] == [" (yes,", ' "no.']
    assert [tokens for _, tokens in words] == [[0, 1, 2], [3, 4, 5]]


def test_white_space_is_no_word() -> None:
    """Where a script has no spaces, one that the model says stands before the word after it, and at the end nowhere."""
    raw = [("你好", 0.0, 0.5), (" ", 0.5, 1.5), ("天", 1.5, 1.7), (" ", 1.7, 1.9)]
    words = words_of([Aligned(w, [n], a, b, 0.5) for n, (w, a, b) in enumerate(raw)], Window(bytes(64000), 0.0))
    assert [(word.word, word.start, tokens) for word, tokens in words] == [("你好", 0.0, [0]), (" 天", 1.5, [1, 2])]


def test_words_do_not_stretch_over_pauses() -> None:
    """A first word that the alignment began in silence before it is cut to twice the usual length."""
    raw = [(" Well", 0.0, 3.0), (" it", 3.0, 3.2), (" is", 3.2, 3.4), (" so", 3.4, 3.6)]
    words = words_of([Aligned(w, [0], a, b, 0.9) for w, a, b in raw], Window(bytes(160000), 10.0))
    assert (words[0][0].start, words[0][0].end) == (12.6, 13.0)


def test_segments_end_with_sentences() -> None:
    """A sentence's end divides segments where a pause follows or the segment is long, and not within a hurry."""

    def of(*raw: tuple[str, float, float]) -> list[str]:
        words = [(Word(word=w, start=a, end=b, probability=1.0), [0]) for w, a, b in raw]
        return ["".join(word.word for word, _ in group) for group in sentences(words)]

    assert of((" Mr.", 0.0, 0.3), (" Ay.", 0.3, 0.8), (" Bee.", 1.5, 2.0)) == [" Mr. Ay.", " Bee."]
    assert of((" One", 0.0, 3.0), (" two.", 3.0, 5.5), (" Three.", 5.5, 6.0)) == [" One two.", " Three."]
    assert of() == []
