"""Which words are final: LocalAgreement-2 over successive hypotheses of the same, growing audio. Pure.

After Macháček, Dabre and Bojar, "Turning Whisper into Real-Time Transcription System" (arXiv 2307.14743): a word is
final when two hypotheses in a row agree on it and on all before it. Two additions against what was seen to go wrong:
spelling is not compared (numbers, hyphens, case, marks), and a word on which hypotheses keep disagreeing is decided
by age, since one such word would hold up all that follow.
"""

import string
from collections.abc import Sequence
from itertools import takewhile

from services.contracts.transcript import Word

STALE = 4.0
"""Seconds after its end at which a word is final although hypotheses still disagree about it (measured: single early
words held up all others for 11 to 17 s)."""
SLACK = 0.1
"""Seconds by which the alignment of a word moves between two hypotheses."""
NEAR = 1.0
"""Seconds around the last final in which a hypothesis may say again what is final already."""
LONGEST_REPEAT = 5
"""Words that are looked at for that."""

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


class Agreement:
    """Decides word by word; what it has once given never changes and is never given again."""

    def __init__(self, end: float = 0.0, tail: Sequence[str] = ()) -> None:
        """Go on after finals that end at `end` seconds, with the words `tail`."""
        self.end = end
        """Seconds at which the last final word ends."""
        self._tail = [spoken(word) for word in tail][-LONGEST_REPEAT:]
        self._last: list[Word] = []

    @property
    def pending(self) -> tuple[Word, ...]:
        """What was heard last and is not final."""
        return tuple(self._last)

    def hear(self, words: Sequence[Word], heard_to: float) -> list[Word]:
        """Take a hypothesis of the audio up to `heard_to` seconds; the words that are final by it."""
        fresh = self._fresh(words)
        agreed = len(
            list(
                takewhile(
                    lambda pair: spoken(pair[0].word) == spoken(pair[1].word), zip(fresh, self._last, strict=False)
                )
            )
        )
        stale = len(list(takewhile(lambda word: word.end <= heard_to - STALE, fresh)))
        count = max(agreed, stale)
        self._last = fresh[count:]
        return self._commit(fresh[:count])

    def close(self, words: Sequence[Word]) -> list[Word]:
        """Take the last hypothesis of an utterance: all of it that is not final becomes so."""
        self._last = []
        return self._commit(self._fresh(words))

    def settle(self) -> list[Word]:
        """Make what was heard last final, without another hypothesis."""
        pending, self._last = self._last, []
        return self._commit(pending)

    def _fresh(self, words: Sequence[Word]) -> list[Word]:
        """The words after the last final, without those that it said already."""
        fresh = [word for word in words if (word.start + word.end) / 2 > self.end - SLACK]
        if fresh and self._tail and fresh[0].start < self.end + NEAR:
            for count in range(min(len(fresh), len(self._tail)), 0, -1):
                if [spoken(word.word) for word in fresh[:count]] == self._tail[-count:]:
                    # One word may well be said twice; it is a repeat if it lies where the final one lay.
                    if count > 1 or fresh[0].start < self.end:
                        return fresh[count:]
                    break
        return fresh

    def _commit(self, words: Sequence[Word]) -> list[Word]:
        final = []
        for word in words:
            start = max(word.start, self.end)
            self.end = max(word.end, start)
            final.append(word.model_copy(update={"start": round(start, 3), "end": round(self.end, 3)}))
        self._tail = [*self._tail, *(spoken(word.word) for word in final)][-LONGEST_REPEAT:]
        return final
