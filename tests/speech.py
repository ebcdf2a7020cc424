"""Spoken samples with their text, and how far what was heard is from what was said.

The samples are those of the package `pytest-audioeval` (MIT): synthetic voices that count to ten and say a sentence
with every letter, in several languages. Nothing but its files is used.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import av
import jiwer
import numpy as np
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from tests.media import RATE, Samples, silence

PAUSE = 0.7
"""Seconds between two samples that are joined."""
COUNTING = {"en": "counting", "es": "conteo", "fr": "comptage", "it": "conteggio", "pt": "contagem"}
"""The sample of each language that counts from one to ten."""
SAID: dict[str, tuple[str, ...]] = {
    "en": ("quick_brown_fox", "counting"),
    "es": ("conteo", "pangrama"),
    "fr": ("bonjour_monde", "comptage", "pangrama"),
    "it": ("conteggio", "pangrama"),
    "pt": ("pangrama", "contagem"),
    "zh": ("nihao_shijie", "pangrama"),
}
"""What `spoken` joins, by language."""
_BRACKETS = re.compile(r"[\[\](){}]")


@dataclass(frozen=True)
class Speech:
    """Somebody speaks: 16 kHz mono, and the words."""

    language: str
    samples: Samples
    text: str

    @property
    def seconds(self) -> float:
        return self.samples.size / RATE


def sample_path(language: str, name: str) -> Path:
    """The file of a sample of the package. Raises LookupError where the package is not installed."""
    spec = find_spec("pytest_audioeval")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("the spoken samples are not installed: `make test` does that")
    return Path(next(iter(spec.submodule_search_locations))) / "samples" / "audio" / language / f"{name}.wav"


@cache
def sample(language: str, name: str) -> Speech:
    """One sample of the package. Raises LookupError where the package is not installed."""
    path = sample_path(language, name)
    with av.open(str(path)) as file:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])  # floats, 16 kHz, mono
    return Speech(language, np.round(wave * 32767).astype(np.int16), path.with_suffix(".txt").read_text().strip())


def joined(pieces: Sequence[Speech], pause: float = PAUSE) -> Speech:
    """One after the other, with a pause after each."""
    samples = np.concatenate([part for piece in pieces for part in (piece.samples, silence(pause))])
    return Speech(pieces[0].language, samples, " ".join(piece.text for piece in pieces))


@cache
def spoken(language: str) -> Speech:
    """Five to nine seconds in a language of `SAID`."""
    return joined([sample(language, name) for name in SAID[language]])


def talk(seconds: float, language: str = "en") -> Speech:
    """The samples of a language again and again, for at least so long."""
    pieces: list[Speech] = []
    for name in cycle(SAID[language]):
        pieces.append(sample(language, name))
        if sum(piece.seconds + PAUSE for piece in pieces) >= seconds:
            return joined(pieces)
    raise AssertionError


def amid_silence(said: Speech, *, before: float, after: float) -> Samples:
    """Somebody speaks after so many seconds of silence, and is silent for so many."""
    return np.concatenate([silence(before), said.samples, silence(after)])


def word_errors(said: Speech, heard: str) -> float:
    """Errors per word said (per character, where a language has no spaces), after Whisper's own normalisers.

    Digits count as the words that they stand for.
    """
    return float(jiwer.wer(_normal(said.language, said.text), _normal(said.language, heard)))


def _counted(digits: re.Match[str]) -> str:
    """Whoever counts is at times written as 1-2-345."""
    return " ".join(one if one == "10" else " ".join(one) for one in digits[0].split("-"))


def _normal(language: str, text: str) -> str:
    text = _BRACKETS.sub(" ", text)  # the normalisers would delete what stands between them
    if language in COUNTING:
        text = re.sub(r"\b\d+(?:-\d+)+\b", _counted, text)
        numbers = sample(language, COUNTING[language]).text.rstrip(".").split()
        text = re.sub(r"\b([1-9]|10)\b", lambda digits: numbers[int(digits[0]) - 1], text)
    if language == "en":
        return str(EnglishTextNormalizer()(text))
    return str(BasicTextNormalizer(split_letters=language == "zh")(text))
