"""When to doubt what the model says: pure rules over one window's answer.

Whisper invents in three ways: it says a phrase again and again, it says something improbable, or it speaks where
nobody does. Short windows make the first likelier (measured: one window in twenty at 1 s of padding, none at 30 s),
so a doubtful window is heard again in the full 30 s frame before anything else is tried.
"""

import string
import zlib
from dataclasses import dataclass

from services.contracts.transcript import Word
from services.transcriber.engine.protocol import Window

COMPRESSION = 2.4
"""Text that compresses better than this repeats itself (OpenAI's Whisper, `compression_ratio_threshold`)."""
PROBABILITY = -1.0
"""Mean log probability per token below which an answer is suspect (OpenAI's Whisper, `logprob_threshold`)."""
AGAIN_PROBABILITY = -0.8
"""Below this an answer from a short window is compared with one from a full one."""
NO_SPEECH = 0.6
"""The share of no-speech above which an answer is marked (OpenAI's Whisper, `no_speech_threshold`)."""
SILENT = ((NO_SPEECH, PROBABILITY), (0.8, -0.5))
"""Above this share of no-speech and below this probability nobody speaks: the first pair is OpenAI's rule, the second
catches the "you" that Whisper hears in music and noise (docs/engine.md)."""
REPEATED_WORDS, REPEATED_CHARACTERS = 3, 6
ANOMALOUS = 3.0

_MARKS = str.maketrans("", "", string.punctuation + "。，、！？：；「」…“”‘’«»")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said of one window. `capped`: it did not come to an end within the tokens allowed."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    capped: bool
    temperature: float = 0.0

    @property
    def compression_ratio(self) -> float:
        """Bytes of the text over bytes of it compressed."""
        data = self.text.strip().encode()
        return len(data) / len(zlib.compress(data)) if data else 0.0

    @property
    def loops(self) -> bool:
        """Whether the model was caught in a phrase."""
        return self.capped or self.compression_ratio > COMPRESSION

    @property
    def silent(self) -> bool:
        """Whether there is plainly no speech behind the answer."""
        unlikely = any(self.no_speech_prob > share and self.avg_logprob < low for share, low in SILENT)
        return unlikely or not self.text.translate(_MARKS).strip()

    @property
    def doubtful(self) -> bool:
        """Whether the window deserves to be heard again in a full frame."""
        return self.loops or self.avg_logprob < AGAIN_PROBABILITY or repeats(self.text)

    @property
    def suspicion(self) -> str | None:
        """Why the answer may be invented, as a word for people."""
        if self.loops or repeats(self.text):
            return "repetition"
        if self.avg_logprob < PROBABILITY:
            return "low_probability"
        return "no_speech" if self.no_speech_prob > NO_SPEECH else None


def repeats(text: str) -> bool:
    """Whether a phrase of at least three words (six characters in scripts without spaces) follows upon itself."""
    plain = text.translate(_MARKS).casefold()
    words = plain.split()
    units: list[str] = words if len(words) > 1 else list(plain.strip())
    shortest = REPEATED_WORDS if len(words) > 1 else REPEATED_CHARACTERS
    return any(
        units[at : at + length] == units[at + length : at + 2 * length]
        for length in range(shortest, len(units) // 2 + 1)
        for at in range(len(units) - 2 * length + 1)
    )


def better(one: Answer, other: Answer) -> Answer:
    """The one to keep of two answers to the same window."""
    return min(one, other, key=lambda answer: (answer.loops, repeats(answer.text), -answer.avg_logprob))


def stands_alone(words: list[Word], window: Window, index: int, count: int, silence: float) -> bool:
    """Whether `count` words from `index` are anomalous and have at least `silence` seconds on both sides.

    The score is that of OpenAI's Whisper (`word_anomaly_score`): improbable, very short and very long words.
    """
    some = words[index : index + count]
    before = words[index - 1].end if index else window.start
    after = words[index + count].start if index + count < len(words) else window.end
    if some[0].start - before < silence or after - some[-1].end < silence:
        return False
    score = sum(map(_anomaly, some))
    return score >= ANOMALOUS or score + 0.01 >= len(some)


def _anomaly(word: Word) -> float:
    seconds = word.end - word.start
    score = 1.0 if word.probability < 0.15 else 0.0
    score += max(0.0, 0.133 - seconds) * 15
    return score + max(0.0, seconds - 2.0)
