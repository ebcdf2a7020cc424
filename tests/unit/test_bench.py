"""What the figures rest on: order of runs, medians and quantiles, reading of folders, word error rates."""

from pathlib import Path

import pytest

from bench.harness import Figure, Pair, alternate, number, quantile, ratio
from bench.speech import RATE, Speech, hours_long, load, measure, save
from bench.wer import WordErrors
from tests.media import silence, tone


async def test_pairs_alternate_and_take_turns_in_going_first() -> None:
    """Ours goes first in every other pair, and each pair holds its own two runs."""
    order: list[str] = []

    async def ours() -> float:
        order.append("ours")
        return float(len(order))

    async def bare() -> float:
        order.append("bare")
        return float(len(order))

    async def nothing() -> None:
        return None

    pairs = await alternate(3, ours, bare, between=nothing)
    assert order == ["ours", "bare", "bare", "ours", "ours", "bare"]
    assert pairs == [Pair(1, 2), Pair(4, 3), Pair(5, 6)]


def test_a_ratio_is_the_median_of_the_pairs_ratios() -> None:
    """One slow pair moves the spread and not the figure."""
    figure = ratio([Pair(8, 10), Pair(40, 10), Pair(9, 10)], 0.85)
    assert (figure.value, figure.low, figure.high, figure.count) == (0.9, 0.8, 4.0, 3)
    assert figure.met is False
    assert "missed" in figure.wanted()


def test_a_quantile_is_a_value_that_was_measured() -> None:
    """The 95th percentile of few values is the largest, the median of an even number the lower of the two."""
    assert quantile([5, 1, 3, 2], 0.95) == 5
    assert quantile([5, 1, 3, 2], 0.5) == 2
    assert quantile(list(range(1, 101)), 0.95) == 95


def test_a_target_is_a_ceiling_or_a_floor() -> None:
    """A rate is to be at least its target, everything else at most; a figure without a target meets none."""
    assert Figure("rate", 0.6, target=0.5, more=True).met is True
    assert Figure("rate", 0.4, target=0.5, more=True).met is False
    assert Figure("wall", 0.6, target=0.5).met is False
    assert Figure("wall", 0.6).met is None


@pytest.mark.parametrize(("value", "shown"), [(0.8512, "0.851"), (12.34, "12.3"), (1234.5, "1234"), (0, "0")])
def test_numbers_are_shown_with_three_digits(value: float, shown: str) -> None:
    """Neither a false precision nor an exponent."""
    assert number(value) == shown


def test_brackets_in_what_was_said_are_read_aloud() -> None:
    """The normaliser would delete them, and with them words that the reader spoke."""
    assert WordErrors().rate("the book (a thick one) was read", "The book, a thick one, was read.") == 0
    assert WordErrors().rate("the red book was", "the book was") == 25


def test_both_shapes_of_folder_are_read(tmp_path: Path) -> None:
    """`transcripts.tsv`, whose names may have another ending than the files, and LibriSpeech's `*.trans.txt`."""
    save(tmp_path / "a.wav", tone(2))
    (tmp_path / "my.transcripts.tsv").write_text("a.flac\tfirst words\nmissing.wav\tnobody\n")
    chapter = tmp_path / "19" / "198"
    chapter.mkdir(parents=True)
    save(chapter / "19-198-0001.wav", tone(3))
    (chapter / "19-198.trans.txt").write_text("19-198-0001 SECOND WORDS\n")
    speech = Speech(tmp_path, tmp_path / "made")
    assert speech.real
    assert [clip.text for clip in speech.clips(2, 1, 4)] == ["SECOND WORDS", "first words"]
    long = speech.long(30)
    assert long.text == " ".join(["SECOND WORDS first words"] * 6)
    assert load(long.path).size / RATE == pytest.approx(long.seconds)


def test_a_folder_that_holds_too_few_clips_gives_cuts_without_text(tmp_path: Path) -> None:
    """They have the length that was asked for, and nobody claims to know their words."""
    save(tmp_path / "a.wav", tone(2))
    (tmp_path / "transcripts.tsv").write_text("a.wav\twords\n")
    (clip,) = Speech(tmp_path, tmp_path / "made").clips(1, 5, 5)
    assert (clip.seconds, clip.text) == (5, None)
    assert measure(clip.path).seconds == 5


def test_hours_are_made_of_repeated_packets(tmp_path: Path) -> None:
    """The recording decodes to the length that it was asked for, and sounds all along."""
    source = measure(save(tmp_path / "a.wav", tone(1)))
    made = hours_long(source, 60, tmp_path / "long.mka")
    samples = load(made.path)
    assert samples.size / RATE == pytest.approx(60, abs=0.1)
    assert abs(samples[-12 * RATE :]).max() > 1000
    assert measure(save(tmp_path / "b.wav", silence(1))).seconds == 1
