"""Which words are final: agreed by two hypotheses in a row, or too old to wait for, and then for ever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.contracts.transcript import Word
from services.transcriber.live.agreement import STALE, Agreement, differences, spoken


def said(text: str, start: float = 0.0, each: float = 0.4, probability: float = 0.9) -> list[Word]:
    """Words one after the other."""
    return [
        Word(word=f" {word}", start=start + n * each, end=start + (n + 1) * each, probability=probability)
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


def heard_until_final(probability: float, age: float) -> int:
    """Hypotheses of one word, at so many seconds after its end, until it is final."""
    agreement = Agreement()
    return next(n for n in range(1, 9) if agreement.hear(said("hole", probability=probability), 0.4 + age))


def test_an_improbable_word_needs_more_hypotheses() -> None:
    """What the model is not sure of waits for another one, or for two, the longer the less probable it is."""
    assert [heard_until_final(one, 0.5) for one in (0.9, 0.7, 0.45, 0.3)] == [2, 3, 3, 4]
    assert [heard_until_final(one, 1.4) for one in (0.9, 0.7, 0.45, 0.3)] == [2, 2, 3, 4]
    assert [heard_until_final(one, 1.6) for one in (0.9, 0.7, 0.45, 0.3)] == [2, 2, 2, 4]
    assert [heard_until_final(one, 2.6) for one in (0.9, 0.7, 0.45, 0.3)] == [2, 2, 2, 2]


def test_what_follows_an_improbable_word_waits_with_it() -> None:
    """Finals are in order: what was agreed on behind a doubtful word becomes final with it."""
    agreement = Agreement()
    doubtful = [*said("the"), *said("hole", 0.4, probability=0.45), *said("book", 0.8)]
    agreement.hear(doubtful, 1.2)
    assert texts(agreement.hear(doubtful, 1.4)) == "the"
    assert texts(agreement.hear(doubtful, 1.6)) == "hole book"


def test_a_mishearing_does_not_count_as_a_hypothesis_before() -> None:
    """A doubtful word that came differently meanwhile is counted from the beginning."""
    agreement = Agreement()
    whole, hole = (said(word, probability=0.45) for word in ("whole", "hole"))
    for one in (whole, whole, hole, hole):
        assert agreement.hear(one, 0.9) == []
    assert texts(agreement.hear(hole, 0.9)) == "hole"


def test_a_word_stretched_over_what_was_not_understood_takes_nothing_with_it() -> None:
    """A hypothesis that ends too early makes its last word too long; the words after it are still to come."""
    agreement = Agreement()
    agreement.hear(said("the oldest book"), 1.4)
    assert texts(agreement.hear([said("the", each=1.8)[0]], 1.9)) == "the"
    assert agreement.end == 0.4
    assert texts(agreement.close(said("the oldest book is printed"))) == "oldest book is printed"


def test_what_is_final_is_found_by_its_words_where_times_are_wrong() -> None:
    """A hypothesis whose words lie elsewhere, or are spelled or split otherwise, repeats nothing and loses nothing."""
    agreement = Agreement()
    agreement.close(said("the old fashioned books are made"))
    later = said("the old-fashioned books are made well", start=1.5)
    assert texts(agreement.hear(later, 4.0)) == ""
    assert texts(agreement.close(later)) == "well"


def test_numbers_may_be_split_otherwise() -> None:
    """Digits that were one word and are several now, or the other way round, are not said again."""
    agreement = Agreement()
    agreement.close([*said("he counts"), *said("1-2-345", 0.8, 2.0)])
    assert texts(agreement.close(said("he counts one two three 4 5 6 seven"))) == "6 seven"
    agreement.close(said("8 nine 1", 4.0))
    assert texts(agreement.close(said("8 91 2", 4.0), heard_from=4.0)) == "2"


def test_finals_from_before_the_sound_do_not_count() -> None:
    """Of what was said only that is looked for which lies in the sound that was heard."""
    agreement = Agreement()
    agreement.close(said("we will go on"))
    assert texts(agreement.close(said("we will go", start=5.0), heard_from=4.8)) == "we will go"


def test_differences_count_words_put_in_left_out_and_replaced() -> None:
    """The edit distance of what was said from each beginning of what is heard."""
    assert differences(["a", "b", "c"], ["a", "x", "c", "d"]) == [3, 2, 2, 1, 2]


def test_sound_is_let_go_at_the_beginning_of_a_final_word() -> None:
    """The last one that begins before a time, so that no word is cut in two."""
    agreement = Agreement()
    agreement.close(said("we will go on"))
    assert agreement.before(0.9) == 0.8
    assert agreement.before(-1.0) == 0.0


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
    at = float(begun)
    for word in given_so_far:
        assert at <= word.start <= word.end
        at = word.end
