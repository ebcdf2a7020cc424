"""Which words are final: LocalAgreement-2 over successive hypotheses of the same, growing audio. Pure.

After Macháček, Dabre and Bojar, "Turning Whisper into Real-Time Transcription System" (arXiv 2307.14743): a word is
final when two hypotheses in a row agree on it and on all before it. Additions against what was seen to go wrong:
spelling is not compared (numbers, hyphens, case, marks); a word on which hypotheses keep disagreeing is decided by age,
since one such word would hold up all that follow; an improbable word needs more hypotheses; and what was said
already is found by its words, since times are wrong where a hypothesis ends too early or stretches a word.
"""

import string
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise, takewhile

from services.contracts.transcript import Word

STALE = 4.0
"""Seconds after its end at which a word is final although hypotheses still disagree about it (measured: single early
words held up all others for 11 to 17 s)."""
DOUBTS = ((0.73, 1, 0.8), (0.5, 1, 1.5), (0.35, 2, 2.5))
"""A word below this probability needs so many hypotheses more that agree, until so many seconds after its end: what was
heard at the very end of the sound is the least certain, and others wait behind it (measured: docs/engine.md)."""
SLACK = 0.1
"""Seconds by which the alignment of a word moves between two hypotheses."""
NEAR = 1.0
"""Seconds after the last final in which a hypothesis may say again what is final already."""
LONGEST_REPEAT = 5
"""Words that are looked at for that."""
MEMORY = 120
"""Final words that are remembered: a hypothesis says again those of the utterance that is held, 23 s at most."""

_MARKS = str.maketrans("", "", string.punctuation + "。，、！？：；「」…“”‘’«»–—- ")
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_DIGITS = {name: str(number) for number, name in enumerate(_NUMBERS)}
_DIGITS |= {
    ten + one: str(10 * tens + number)
    for tens, ten in enumerate(_TENS, start=2)
    for number, one in enumerate(["", *_NUMBERS[1:10]])
}
"""English numbers up to a hundred, as they are compared: without a hyphen."""


def spoken(word: str) -> str:
    """What is compared of a word: neither case nor marks nor hyphens, and numbers up to a hundred as digits."""
    bare = word.casefold().translate(_MARKS)
    return _DIGITS.get(bare, bare)


def pieces(word: str) -> list[str]:
    """What a word is counted as where words are put in, left out and replaced: "1-2-345" is five, as "one, two…" is."""
    bare = spoken(word)
    return list(bare) if bare.isdecimal() else [bare]


def doubts(word: Word, heard_to: float) -> int:
    """How many hypotheses more than two have to agree on a word, in sound that ends at `heard_to` seconds."""
    return max(
        (more for below, more, age in DOUBTS if word.probability < below and word.end > heard_to - age), default=0
    )


class Agreement:
    """Decides word by word; what it has once given never changes and is never given again."""

    def __init__(self, end: float = 0.0, said: Sequence[Word] = ()) -> None:
        """Go on after finals that end at `end` seconds, the last of which are `said`."""
        self.end = end
        """Seconds at which the last final word ends."""
        self._said = list(said)[-MEMORY:]
        self._last: list[Word] = []
        self._agreed: list[int] = []

    @property
    def pending(self) -> tuple[Word, ...]:
        """What was heard last and is not final."""
        return tuple(self._last)

    def hear(self, words: Sequence[Word], heard_to: float, heard_from: float = 0.0) -> list[Word]:
        """Take a hypothesis of the audio between two times, in seconds; the words that are final by it."""
        fresh, times = self._compared(self._fresh(words, heard_from))
        enough = [count > doubts(word, heard_to) for word, count in zip(fresh, times, strict=True)]
        agreed = len(list(takewhile(bool, enough)))
        stale = len(list(takewhile(lambda word: word.end <= heard_to - STALE, fresh)))
        count = max(agreed, stale)
        self._last, self._agreed = fresh[count:], times[count:]
        return self._commit(fresh[:count])

    def close(self, words: Sequence[Word], heard_from: float = 0.0) -> list[Word]:
        """Take the last hypothesis of an utterance: all of it that is not final becomes so."""
        self._last, self._agreed = [], []
        return self._commit(self._fresh(words, heard_from))

    def settle(self) -> list[Word]:
        """Make what was heard last final, without another hypothesis."""
        pending, self._last, self._agreed = self._last, [], []
        return self._commit(pending)

    def before(self, at: float) -> float:
        """The beginning of the last final word that begins before `at` seconds; 0 if none does."""
        return max((word.start for word in self._said if word.start <= at), default=0.0)

    def _compared(self, fresh: Sequence[Word]) -> tuple[list[Word], list[int]]:
        """The words, and for each how many hypotheses in a row said it, and all before it, already.

        Where the alignment stretches a word over what it did not understand, the shorter of two is kept.
        """
        words, times = list(fresh), [0] * len(fresh)
        for n, (word, before, count) in enumerate(zip(fresh, self._last, self._agreed, strict=False)):
            if spoken(word.word) != spoken(before.word):
                break
            times[n] = count + 1
            if word.start < before.end < word.end - SLACK:
                words[n] = word.model_copy(update={"end": before.end})
        return words, times

    def _fresh(self, words: Sequence[Word], heard_from: float) -> list[Word]:
        """The words after the last final.

        How many of a hypothesis' words are final already is told by the words: as many as differ least, in words put
        in, left out and replaced, from what was said since `heard_from`. Where several do, times tell; and where the
        hypothesis does not know what was said, times and the last words.
        """
        ended = sum((word.start + word.end) / 2 <= self.end - SLACK for word in words)
        said = [one for word in self._said if (word.start + word.end) / 2 > heard_from for one in pieces(word.word)]
        if said:
            heard = [pieces(word.word) for word in words]
            costs = differences(said, list(chain.from_iterable(heard)))
            upto = list(accumulate(map(len, heard), initial=0))
            least = min(range(len(upto)), key=lambda count: (costs[upto[count]], abs(count - ended)))
            if costs[upto[least]] <= len(said) / 2:
                return list(words[least:])
        return self._without_repeat(list(words[ended:]))

    def _without_repeat(self, fresh: list[Word]) -> list[Word]:
        """Words without those at their beginning that are the last final ones again."""
        tail = [spoken(word.word) for word in self._said[-LONGEST_REPEAT:]]
        if fresh and fresh[0].start < self.end + NEAR:
            for count in range(min(len(fresh), len(tail)), 0, -1):
                if [spoken(word.word) for word in fresh[:count]] == tail[-count:]:
                    # One word may well be said twice; it is a repeat if it lies where the final one lay.
                    return fresh[count:] if count > 1 or fresh[0].start < self.end else fresh
        return fresh

    def _commit(self, words: Sequence[Word]) -> list[Word]:
        final = []
        for word in words:
            start = max(word.start, self.end)
            self.end = max(word.end, start)
            final.append(word.model_copy(update={"start": round(start, 3), "end": round(self.end, 3)}))
        self._said = [*self._said, *final][-MEMORY:]
        return final


def differences(said: Sequence[str], words: Sequence[str]) -> list[int]:
    """For each number of first words their edit distance (Levenshtein) from all that was said."""
    row = list(range(len(words) + 1))
    for n, one in enumerate(said, start=1):
        before, row = row, [n]
        for (corner, above), word in zip(pairwise(before), words, strict=True):
            row.append(min(above + 1, row[-1] + 1, corner + (one != word)))
    return row
