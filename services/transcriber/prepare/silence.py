"""Probabilities of voice to stretches of speech, as a stream and with a bounded delay.

Silero's hysteresis as faster-whisper's `vad.get_speech_timestamps` has it, with the same thresholds and padding but a
shorter silence, since every silence found here is a place to cut. One difference, for the sake of the bounded delay:
once speech has fallen below the lower threshold, values between the two count towards the silence.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from services.transcriber.prepare.media import FRAME, SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """When speech begins and ends. Seconds, except the two thresholds."""

    threshold: float = 0.5
    lower_threshold: float = 0.35
    min_silence: float = 0.3
    min_speech: float = 0.1
    padding: float = 0.4
    """Added on both sides of a stretch; two stretches whose padding would overlap meet in the middle."""

    def frames(self, seconds: float) -> int:
        """The least number of frames that last so long."""
        return -(-round(seconds * SAMPLE_RATE) // FRAME)

    @property
    def delay(self) -> int:
        """Samples after which nothing about a moment can change any more."""
        return FRAME * (
            2 + self.frames(2 * self.padding) + self.frames(self.min_silence) + self.frames(self.min_speech)
        )


NEVER = 1 << 62  # samples: what has not happened yet


@dataclass(frozen=True, slots=True)
class Stretch:
    """Speech from `start` to `end` (samples, padding included); the voice itself is from `voice` to `silent`.

    One that still runs has both its ends at `NEVER`.
    """

    start: int
    end: int
    voice: int
    silent: int


class Finder(Protocol):
    """Gives the stretches of speech of one recording, in order and as they become certain.

    What begins more than `delay` samples before the end of what it has heard is either given or `running`.
    """

    delay: int

    @property
    def running(self) -> Stretch | None:
        """The stretch that has begun and is not given yet."""

    def feed(self, probabilities: Iterable[float]) -> list[Stretch]:
        """Hears one probability for each 512 samples."""

    def close(self, total: int) -> list[Stretch]:
        """The rest, at the end of a recording of `total` samples."""


class Everything:
    """Takes all of a recording for speech."""

    delay = FRAME

    def __init__(self) -> None:
        self.running: Stretch | None = Stretch(0, NEVER, 0, NEVER)

    def feed(self, probabilities: Iterable[float]) -> list[Stretch]:
        """Nothing: it never ends."""
        return []

    def close(self, total: int) -> list[Stretch]:
        """All of it."""
        self.running = None
        return [Stretch(0, total, 0, total)] if total else []


class SpeechFinder:
    """Finds the stretches in which somebody speaks."""

    def __init__(self, hysteresis: Hysteresis | None = None) -> None:
        self._rule = hysteresis or Hysteresis()
        self._min_silence = self._rule.frames(self._rule.min_silence)
        self._min_speech = self._rule.frames(self._rule.min_speech)
        self._padding = round(self._rule.padding * SAMPLE_RATE)
        # To end, speech needs min_silence; to be told its padding, what comes within twice that, and lasts or not.
        frames = self._rule.frames(2 * self._rule.padding) + self._min_silence + self._min_speech + 2
        self.delay = frames * FRAME
        self._frame = 0
        self._voice: int | None = None  # frame where speech began, whether it lasts or not
        self._fall: int | None = None  # frame where it fell below the lower threshold
        self._lasts = False  # it has reached min_speech
        self._ended: Stretch | None = None  # waits for what comes next to know its padding
        self._last_silent = 0  # where the voice of the stretch before ended

    @property
    def running(self) -> Stretch | None:
        """The stretch that has begun and is not given yet."""
        if self._ended is not None:  # unless speech goes on, it ends too late to matter yet
            return Stretch(self._ended.start, NEVER, self._ended.voice, NEVER)
        if self._voice is None or not self._lasts:
            return None
        voice = self._voice * FRAME
        return Stretch(self._padded_start(voice), NEVER, voice, NEVER)

    def feed(self, probabilities: Iterable[float]) -> list[Stretch]:
        """The stretches that became certain, in order."""
        given: list[Stretch] = []
        for probability in probabilities:
            self._hear(probability, given)
        return given

    def close(self, total: int) -> list[Stretch]:
        """The rest, at the end of a recording of `total` samples."""
        given: list[Stretch] = []
        if self._voice is not None and total > self._voice * FRAME:
            end = self._frame if self._fall is None else self._fall
            if self._lasts or end - self._voice >= self._min_speech:
                self._begin(given)
                self._end(min(end * FRAME, total))
            self._voice = None
        self._settle(given, total)
        return given

    def _hear(self, probability: float, given: list[Stretch]) -> None:
        rule, frame = self._rule, self._frame
        self._frame += 1
        if self._voice is None:
            if probability >= rule.threshold:
                self._voice, self._fall, self._lasts = frame, None, False
        elif probability >= rule.threshold:
            self._fall = None
        elif self._fall is None and probability < rule.lower_threshold:
            self._fall = frame
        if self._voice is not None:
            if self._fall is None and not self._lasts and self._frame - self._voice >= self._min_speech:
                self._begin(given)
            elif self._fall is not None and self._frame - self._fall >= self._min_silence:
                if self._lasts:
                    self._end(self._fall * FRAME)
                self._voice = None
        if self._ended and self._voice is None and self._frame * FRAME >= self._ended.silent + 2 * self._padding:
            self._settle(given, self._ended.silent + self._padding)

    def _begin(self, given: list[Stretch]) -> None:
        """Speech lasts: what ended before it is certain now."""
        if not self._lasts and self._voice is not None:
            if self._ended is not None:
                middle = (self._ended.silent + self._voice * FRAME) // 2
                self._settle(given, min(self._ended.silent + self._padding, middle))
            self._lasts = True

    def _end(self, silent: int) -> None:
        assert self._voice is not None
        voice = self._voice * FRAME
        self._ended = Stretch(self._padded_start(voice), silent, voice, silent)

    def _settle(self, given: list[Stretch], end: int) -> None:
        if self._ended is not None:
            last = self._ended
            given.append(Stretch(last.start, min(end, last.silent + self._padding), last.voice, last.silent))
            self._last_silent, self._ended = last.silent, None

    def _padded_start(self, voice: int) -> int:
        return max(voice - self._padding, (self._last_silent + voice) // 2 if self._last_silent else 0)
