"""One batch of windows on one loaded model: encode, decode, doubt, hear again, align."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from services.contracts.parts import SAMPLE_RATE
from services.contracts.transcript import Segment, Word
from services.transcriber.engine.doubt import Answer, better, stands_alone
from services.transcriber.engine.hearer import Step
from services.transcriber.engine.protocol import Task, Window, WindowResult
from services.transcriber.engine.shelf import Model
from services.transcriber.engine.words import Aligned, sentences, words_of

HOP = 160
"""Samples per frame of features: 10 ms."""
FULL_FRAMES = 3000
"""30 s: what Whisper was trained on."""
PAD_SECONDS, SHORTEST_SECONDS = 2.0, 10.0
"""Silence after a window, and the shortest frame. Measured on 38 clips of read speech with `base`: word error rate
3.8 to 4.0 % with these, 3.5 to 3.8 % in full frames, 6.6 to 7.2 % with 1 s and 6 s, where phrases were repeated."""
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
_ALONE_SECONDS = 2.0

LIVE_PAD_SECONDS, LIVE_SHORTEST_SECONDS = 1.0, 10.0
LIVE_TOKENS_AT_LEAST = 12
"""A live window gets less of everything: a runaway decode of a cut word costs seconds (measured: p95 3.1 to 2.3 s)."""

Samples = npt.NDArray[np.float32]


def samples_of(window: Window) -> Samples:
    """A window's samples in -1..1."""
    return np.frombuffer(window.pcm, dtype="<i2").astype(np.float32) / np.float32(32768)


def frames_for(seconds: float, *, live: bool = False) -> int:
    """Frames of 10 ms to encode for a window of this length: even, and never more than 30 s."""
    padding, least = (LIVE_PAD_SECONDS, LIVE_SHORTEST_SECONDS) if live else (PAD_SECONDS, SHORTEST_SECONDS)
    frames = int(max(seconds + padding, least) * SAMPLE_RATE / HOP)
    return min(frames + frames % 2, FULL_FRAMES)


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoder's output for some windows, all of the same number of frames."""

    model: Model
    output: Any

    @classmethod
    def of(cls, model: Model, clips: Sequence[Samples], frames: int, step: Step) -> "Encoded":
        """Encode. On a CPU one by one: it takes as long, needs less memory and can be interrupted."""
        whisper = model.whisper
        features = [_features(model, clip, frames) for clip in clips]
        if whisper.model.device != "cpu":
            return cls(model, whisper.encode(np.stack(features)))
        rows = []
        for one in features:
            step("step")
            rows.append(np.asarray(whisper.encode(one)))
        return cls(model, ctranslate2.StorageView.from_array(np.concatenate(rows)))

    def languages(self) -> list[list[tuple[str, float]]]:
        """For each window the languages by falling probability."""
        return [
            [(token[2:-2], probability) for token, probability in found]
            for found in self.model.whisper.model.detect_language(self.output)
        ]


def _features(model: Model, clip: Samples, frames: int) -> Samples:
    """Log-mel features of a clip followed by silence, as in training (not by zeros among the features)."""
    padded = np.zeros(frames * HOP, dtype=np.float32)
    padded[: len(clip)] = clip[: len(padded)]
    return np.asarray(model.whisper.feature_extractor(padded, padding=0)[:, :frames], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Kept:
    """The answer to a window, and where its encoding lies."""

    answer: Answer
    encoded: Encoded
    row: int


class Hearing:
    """Hears batches of one task. Deterministic for a temperature of None or 0."""

    def __init__(self, model: Model, task: Task, step: Step) -> None:
        self._model = model
        self._task = task
        self._step = step

    def hear(self, windows: Sequence[Window]) -> list[WindowResult]:
        """One result for each window, in order."""
        clips = [samples_of(window) for window in windows]
        frames = frames_for(max(window.seconds for window in windows), live=self._task.live)
        encoded = Encoded.of(self._model, clips, frames, self._step)
        language = self._language(encoded, windows)
        tokenizer = Tokenizer(
            self._model.whisper.hf_tokenizer,
            self._model.whisper.model.is_multilingual,
            task=self._task.task,
            language=language,
        )
        decoder = _Decoder(self._model, self._task, tokenizer)
        caps = [_cap(window.seconds, language, live=self._task.live) for window in windows]
        self._step("step")
        answers = decoder.answers(encoded, caps)
        kept = [_Kept(answer, encoded, row) for row, answer in enumerate(answers)]
        if not self._task.live:
            self._again(decoder, clips, kept, frames)
        words = self._words(tokenizer, windows, kept)
        return [
            self._result(window, one.answer, words.get(index), tokenizer)
            for index, (window, one) in enumerate(zip(windows, kept, strict=True))
        ]

    def _language(self, encoded: Encoded, windows: Sequence[Window]) -> str:
        """The language asked for, or the likeliest of the batch, long windows counting more."""
        if not self._model.whisper.model.is_multilingual:
            return "en"
        if self._task.language is not None:
            return self._task.language
        votes: Counter[str] = Counter()
        for window, found in zip(windows, encoded.languages(), strict=True):
            for language, probability in found:
                votes[language] += probability * window.seconds  # type: ignore[assignment]
        return votes.most_common(1)[0][0]

    def _again(self, decoder: "_Decoder", clips: Sequence[Samples], kept: list[_Kept], frames: int) -> None:
        """Hear doubtful windows in the full frame; those that still loop once more, forbidden to repeat."""
        for forbidding in (False, True):
            doubtful = [
                index
                for index, one in enumerate(kept)
                if not one.answer.silent
                and (one.answer.loops if forbidding else one.answer.doubtful and frames < FULL_FRAMES)
            ]
            if not doubtful:
                continue
            self._step("step")
            encoded = Encoded.of(self._model, [clips[i] for i in doubtful], FULL_FRAMES, self._step)
            answers = decoder.answers(encoded, [MOST_TOKENS] * len(doubtful), forbidding=forbidding)
            for row, (index, answer) in enumerate(zip(doubtful, answers, strict=True)):
                if better(answer, kept[index].answer) is answer:
                    kept[index] = _Kept(answer, encoded, row)

    def _words(
        self, tokenizer: Tokenizer, windows: Sequence[Window], kept: Sequence[_Kept]
    ) -> dict[int, list[tuple[Word, list[int]]]]:
        """The words of each window by its index, aligned encoding by encoding."""
        if not self._task.word_timestamps:
            return {}
        found: dict[int, list[tuple[Word, list[int]]]] = {}
        for encoded in {id(one.encoded): one.encoded for one in kept}.values():
            self._step("step")
            mine = {one.row: index for index, one in enumerate(kept) if one.encoded is encoded}
            tokens = [
                list(kept[mine[row]].answer.tokens) if row in mine else [] for row in range(encoded.output.shape[0])
            ]
            # A row's number of frames keeps its words out of the padding.
            lengths = [
                max(2, len(windows[mine[row]].pcm) // 2 // HOP) if row in mine else 2 for row in range(len(tokens))
            ]
            aligned = self._model.whisper.find_alignment(tokenizer, tokens, encoded.output, lengths)
            for row, index in mine.items():
                some = [
                    Aligned(w["word"], list(w["tokens"]), float(w["start"]), float(w["end"]), float(w["probability"]))
                    for w in aligned[row]
                ]
                found[index] = words_of(some, windows[index])
        return found

    def _result(
        self, window: Window, answer: Answer, words: list[tuple[Word, list[int]]] | None, tokenizer: Tokenizer
    ) -> WindowResult:
        language: str = tokenizer.language_code
        if answer.silent:
            return WindowResult(window.start, window.end, language=language)
        segments: tuple[Segment, ...]
        if words is None:
            segments = (self._segment(window.start, window.end, answer.text, (), answer.tokens, answer, tokenizer),)
        else:
            segments = tuple(self._sentences(window, words, answer, tokenizer))
        reason = next((segment.suspect for segment in segments if segment.suspect), None)
        return WindowResult(
            window.start, window.end, segments, language=language, suspect=reason is not None, reason=reason
        )

    def _sentences(
        self, window: Window, words: list[tuple[Word, list[int]]], answer: Answer, tokenizer: Tokenizer
    ) -> Iterator[Segment]:
        plain, at = [word for word, _ in words], 0
        threshold = self._task.hallucination_silence_threshold
        for group in sentences(words):
            alone = stands_alone(plain, window, at, len(group), threshold or _ALONE_SECONDS)
            at += len(group)
            if alone and threshold is not None:
                continue
            some = tuple(word for word, _ in group)
            text = "".join(word.word for word in some)
            tokens = tuple(token for _, tokens in group for token in tokens)
            segment = self._segment(some[0].start, some[-1].end, text, some, tokens, answer, tokenizer)
            yield segment.model_copy(update={"suspect": "alone_in_silence"}) if alone else segment

    @staticmethod
    def _segment(
        start: float,
        end: float,
        text: str,
        words: tuple[Word, ...],
        tokens: tuple[int, ...],
        answer: Answer,
        tokenizer: Tokenizer,
    ) -> Segment:
        return Segment(
            start=round(start, 3),
            end=round(end, 3),
            text=text,
            words=words,
            language=tokenizer.language_code,
            avg_logprob=round(answer.avg_logprob, 4),
            no_speech_prob=round(answer.no_speech_prob, 4),
            compression_ratio=round(answer.compression_ratio, 4),
            temperature=answer.temperature,
            tokens=tuple(tokens),
            suspect=answer.suspicion,
        )


class _Decoder:
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


def _cap(seconds: float, language: str, *, live: bool = False) -> int:
    """Tokens that speech of this length may take; an answer that needs more is heard again without this cap."""
    rate = TOKENS_PER_SECOND if language in _CONCISE else TOKENS_PER_SECOND_DENSE
    return min(MOST_TOKENS, (LIVE_TOKENS_AT_LEAST if live else TOKENS_AT_LEAST) + int(rate * seconds))


def _context(task: Task, tokenizer: Tokenizer) -> list[int]:
    """Hotwords and prompt before the start of the transcript; where both are long the prompt's beginning gives way."""
    hotwords = tokenizer.encode(" " + task.hotwords.strip())[:CONTEXT_TOKENS] if task.hotwords else []
    room = CONTEXT_TOKENS - len(hotwords)
    prompt = tokenizer.encode(" " + task.prompt.strip())[-room:] if task.prompt and room else []
    return [tokenizer.sot_prev, *hotwords, *prompt] if hotwords or prompt else []
