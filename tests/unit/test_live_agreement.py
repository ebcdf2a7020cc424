"""Which words are final: agreed by two hypotheses in a row, or too old to wait for, and then for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.transcript import Word
from services.transcriber.live.agreement import STALE, Agreement, spoken


def said(text: str, start: float = 0.0, each: float = 0.4) -> list[Word]:
    """Words one after the other."""
    return [
        Word(word=f" {word}", start=start + n * each, end=start + (n + 1) * each, probability=0.9)
        for n, word in enumerate(text.split())
    ]


def texts(words: list[Word]) -> str:
    """The words, joined."""
    return "".join(word.word for word in words).strip()


def test_two_hypotheses_that_agree_make_words_final() -> None:
    """The common beginning of two hypotheses in a row is final, the rest waits."""
    agreement = Agreement()
    assert agreement.hear(said("the cat"), 1.0) == []
    assert texts(agreement.hear(said("the cat sat on"), 1.8)) == "the cat"
    assert texts(list(agreement.pending)) == "sat on"
    assert texts(agreement.hear(said("the cat sat in a"), 2.2)) == "sat"


def test_spelling_is_not_compared() -> None:
    """Case, marks, hyphens and small numbers do not keep a word from being final."""
    assert spoken(" Twenty-One,") == spoken(" twentyone")
    assert spoken(" Three") == spoken("3.")
    assert spoken(" forty-two,") == spoken(" 42")
    assert spoken(" Ninety") == spoken(" 90.")
    assert spoken(" fifteen") != spoken(" fifty")
    agreement = Agreement()
    agreement.hear(said("at three o'clock"), 1.5)
    assert texts(agreement.hear(said("At 3 oclock, then"), 2.0)) == "At 3 oclock,"


def test_a_word_that_stays_disputed_is_decided_by_age() -> None:
    """Hypotheses that never agree hold nothing up for more than some seconds."""
    agreement = Agreement()
    agreement.hear(said("one red"), 1.0)
    found = agreement.hear(said("won read book"), 0.9 + STALE)
    assert texts(found) == "won read"


def test_what_is_final_is_not_said_again() -> None:
    """A hypothesis that begins with the last final words gives only what follows them."""
    agreement = Agreement()
    agreement.close(said("we are at present concerned"))
    again = said("present concerned differs from", start=agreement.end - 0.15)
    assert texts(agreement.close(again)) == "differs from"


def test_the_end_of_a_stream_gives_each_word_once() -> None:
    """The accurate pass over the utterance decides what is not final, and nothing else."""
    agreement = Agreement()
    agreement.hear(said("the quick brown"), 1.4)
    first = agreement.hear(said("the quick brown fox"), 1.8)
    rest = agreement.close(said("the quick brown fox jumps"))
    assert texts([*first, *rest]) == "the quick brown fox jumps"
    assert agreement.close(said("the quick brown fox jumps")) == []


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=8), max_size=8), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_finals_are_in_order_and_never_change(hypotheses: list[list[str]], begun: int) -> None:
    """Whatever is heard, finals follow one another in time and are given once."""
    agreement, given_so_far = Agreement(begun), []
    for n, words in enumerate(hypotheses):
        given_so_far += agreement.hear(said(" ".join(words), start=begun), begun + n)
    given_so_far += agreement.close(said("a b c", start=begun))
    at = begun
    for word in given_so_far:
        assert at <= word.start <= word.end
        at = word.end
