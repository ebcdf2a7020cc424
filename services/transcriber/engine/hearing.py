"""One batch of windows on one loaded model: encode, decode, doubt, hear again, align."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from faster_whisper.tokenizer import Tokenizer

from services.contracts.transcript import Segment, Word
from services.transcriber.engine.decoding import MOST_TOKENS, Decoder, cap_of
from services.transcriber.engine.doubt import Answer, better, stands_alone
from services.transcriber.engine.encoding import FULL_FRAMES, HOP, Encoded, Samples, frames_for, samples_of
from services.transcriber.engine.hearer import Step
from services.transcriber.engine.protocol import Task, Window, WindowResult
from services.transcriber.engine.shelf import Model
from services.transcriber.engine.words import Aligned, sentences, words_of

_ALONE_SECONDS = 2.0


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
        decoder = Decoder(self._model, self._task, tokenizer)
        caps = [cap_of(window.seconds, language, live=self._task.live) for window in windows]
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

    def _again(self, decoder: Decoder, clips: Sequence[Samples], kept: list[_Kept], frames: int) -> None:
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
