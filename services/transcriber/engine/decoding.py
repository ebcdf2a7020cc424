"""From the encoder's output to answers: the prompt, the beam, and how many tokens speech of a length may take."""

from collections.abc import Sequence
from typing import Any

import ctranslate2
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from services.transcriber.engine.doubt import Answer
from services.transcriber.engine.encoding import Encoded
from services.transcriber.engine.protocol import Task
from services.transcriber.engine.shelf import Model

MOST_TOKENS = 224
"""What CTranslate2 generates at most: half of the decoder's 448 positions."""
CONTEXT_TOKENS = 223
"""What hotwords and prompt may take of the decoder's positions, as in OpenAI's Whisper."""
TOKENS_AT_LEAST, TOKENS_PER_SECOND, TOKENS_PER_SECOND_DENSE = 16, 8, 20
_CONCISE = frozenset(
    ["ca", "cs", "da", "de", "en", "es", "fi", "fr", "id", "it", "nl", "no", "pl", "pt", "ro", "ru", "sv", "tr", "uk"]
)
"""Languages that the tokenizer writes with few tokens (English speech has 4 to 5 a second); others need more."""
_BEST_OF = 5
LIVE_TOKENS_AT_LEAST = 12
"""A live window gets less of everything: a runaway decode of a cut word costs seconds (measured: p95 3.1 to 2.3 s)."""


class Decoder:
    """Generates answers for encoded windows with one prompt."""

    def __init__(self, model: Model, task: Task, tokenizer: Tokenizer) -> None:
        self._model = model.whisper.model
        self._task = task
        self._tokenizer = tokenizer
        suppressed = [-1] if task.suppress_tokens is None else list(task.suppress_tokens)
        self._suppressed = list(get_suppressed_tokens(tokenizer, suppressed))
        self._prompt = [*_context(task, tokenizer), *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def answers(self, encoded: Encoded, caps: Sequence[int], *, forbidding: bool = False) -> list[Answer]:
        """One answer per row; `caps` are the tokens that each may take. `forbidding`: no phrase of three twice."""
        cap = max(caps)
        options: dict[str, Any] = {"beam_size": self._task.beam_size}
        temperature = 0.0 if forbidding else self._task.temperature or 0.0
        if temperature > 0:
            ctranslate2.set_random_seed(self._task.seed)
            options = {
                "beam_size": 1,
                "num_hypotheses": _BEST_OF,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        results = self._model.generate(
            encoded.output,
            [self._prompt] * len(caps),
            max_length=min(2 * cap, 2 * MOST_TOKENS),
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            no_repeat_ngram_size=3 if forbidding else 0,
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )
        return [self._answer(result, min(cap, own), temperature) for result, own in zip(results, caps, strict=True)]

    def _answer(self, result: Any, cap: int, temperature: float) -> Answer:
        tokens = tuple(token for token in result.sequences_ids[0] if token < self._tokenizer.eot)
        count = len(result.sequences_ids[0])
        return Answer(
            tokens=tokens,
            text=self._tokenizer.decode(list(tokens)),
            # The score is a mean over the tokens without the end, which the mean of Whisper counts.
            avg_logprob=float(result.scores[0]) * count / (count + 1),
            no_speech_prob=float(result.no_speech_prob),
            capped=count >= cap,
            temperature=temperature,
        )


def cap_of(seconds: float, language: str, *, live: bool = False) -> int:
    """Tokens that speech of this length may take; an answer that needs more is heard again without this cap."""
    rate = TOKENS_PER_SECOND if language in _CONCISE else TOKENS_PER_SECOND_DENSE
    return min(MOST_TOKENS, (LIVE_TOKENS_AT_LEAST if live else TOKENS_AT_LEAST) + int(rate * seconds))


def _context(task: Task, tokenizer: Tokenizer) -> list[int]:
    """Hotwords and prompt before the start of the transcript; where both are long the prompt's beginning gives way."""
    hotwords = tokenizer.encode(" " + task.hotwords.strip())[:CONTEXT_TOKENS] if task.hotwords else []
    room = CONTEXT_TOKENS - len(hotwords)
    prompt = tokenizer.encode(" " + task.prompt.strip())[-room:] if task.prompt and room else []
    return [tokenizer.sot_prev, *hotwords, *prompt] if hotwords or prompt else []
