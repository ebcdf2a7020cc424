"""Word error rate, in per cent, of what was heard against what was said."""

import re

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer

_BRACKETS = re.compile(r"[\[\](){}]")


class WordErrors:
    """Compares texts as Whisper's authors do (jiwer after their English normaliser)."""

    def __init__(self) -> None:
        self._normalise = EnglishTextNormalizer()

    def rate(self, said: str, heard: str) -> float:
        """Errors in 100 words said."""
        # The normaliser deletes what stands in brackets; readers read it.
        said, heard = (self._normalise(_BRACKETS.sub(" ", text)) for text in (said, heard))
        return 100 * float(jiwer.wer(said, heard))
