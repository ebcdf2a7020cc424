"""The sound of a session that is not decided yet, and where in it somebody speaks. Pure: no clock, no engine.

Frames are judged one after the other, so that a session that is behind finds the same utterances as one that is not.
"""

from collections import deque
from dataclasses import dataclass

from services.contracts.parts import BYTES_PER_SECOND, SAMPLE_RATE
from services.transcriber.prepare.media import FRAME, Block

VOICE, QUIET = 0.5, 0.35
"""Silero's thresholds: speech begins above the first, and goes on above the second."""
LEAST = 3
"""Frames of voice, about 0.1 s, that make an utterance."""
BEFORE = 0.5
"""Seconds of sound kept before an utterance: its first consonant is quiet."""
LONGEST = 15.0
"""Seconds of an utterance after which its beginning is let go, as far as its words are final."""
CONTEXT, BREATH = 8.0, 0.1
"""Seconds that are kept of it all the same, from the beginning of a word on: what is heard without what went before is
misheard (measured, docs/engine.md); and how long before that word the sound is cut."""
FULL = 25.0
"""Seconds of an utterance at which it is cut although the speaker goes on: Whisper hears 30."""
_SECONDS = FRAME / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Sound:
    """Some sound: s16le, 16 kHz, mono, from `start` seconds of the session on."""

    pcm: bytes
    start: float

    @property
    def end(self) -> float:
        """Seconds at which it ends."""
        return self.start + len(self.pcm) / BYTES_PER_SECOND


class Ear:
    """Holds sound from the beginning of the current utterance on; little more than `BEFORE` seconds in silence."""

    def __init__(self, start: float, endpointing: float, spoken_to: float | None = None) -> None:
        """Sound begins at `start` seconds; `spoken_to`, if it is the middle of an utterance, is where its last known
        word ends: what is quiet before that is no pause after it.
        """
        self._origin = round(start * SAMPLE_RATE)
        self._pcm = bytearray()
        self._frames: deque[float] = deque()
        self._judged = 0
        self._endpointing = max(1, round(endpointing / _SECONDS))
        self._voiced = 0
        self._silent = 0
        self._spoken_to = spoken_to or 0.0
        self.speaking = spoken_to is not None
        """Whether an utterance has begun and not ended."""
        self.endpoint = False
        """Whether the speaker has paused: the utterance is to be closed."""

    @property
    def arrived(self) -> float:
        """Seconds of the session up to which sound is here."""
        return (self._origin + len(self._pcm) // 2) / SAMPLE_RATE

    @property
    def judged(self) -> float:
        """Seconds up to which it is known whether somebody speaks; the last frame of all may be a part of one."""
        return min(self.arrived, self._origin / SAMPLE_RATE + self._judged * _SECONDS)

    @property
    def voice(self) -> float:
        """Seconds at which the voice was first heard that has just begun an utterance, or may be about to."""
        return self.judged - LEAST * _SECONDS

    @property
    def started(self) -> float:
        """Seconds at which the sound begins that is held."""
        return self._origin / SAMPLE_RATE

    @property
    def behind(self) -> bool:
        """Whether sound has come that is not judged yet."""
        return bool(self._frames)

    def feed(self, block: Block) -> None:
        """Take some sound."""
        self._pcm += block.pcm
        self._frames.extend(block.speech)

    def listen(self, most: float = FULL) -> bool:
        """Judge what has come, up to the next beginning or endpoint, or until `most` seconds are held.

        Says whether an utterance began.
        """
        while self._frames and not self.endpoint and self._judged * _SECONDS < most:
            probability = self._frames.popleft()
            self._judged += 1
            if not self.speaking:
                self._voiced = self._voiced + 1 if probability >= VOICE else 0
                if self._voiced >= LEAST:
                    self.speaking, self._silent = True, 0
                    self._let_go(self.voice - BEFORE)
                    return True
                continue
            quiet = probability < QUIET and self.judged > self._spoken_to
            self._silent = self._silent + 1 if quiet else 0
            self.endpoint = self._silent >= self._endpointing
        if not self.speaking:
            self._let_go(self.voice - BEFORE)
        return False

    def utterance(self) -> Sound:
        """What is held of the utterance, as far as it was judged."""
        return Sound(bytes(self._pcm[: self._judged * FRAME * 2]), self.started)

    def cut(self, at: float) -> None:
        """Let go of the sound before `at` seconds; the utterance goes on."""
        self._let_go(at)

    def close(self) -> None:
        """The utterance is over, and its sound with it, but for what may belong to the next one."""
        self._let_go(self.judged - BEFORE if self.endpoint else self.judged)
        self.speaking = self.endpoint = False
        self._voiced = self._silent = 0

    def _let_go(self, at: float) -> None:
        frames = min(self._judged, max(0, int((at - self.started) / _SECONDS)))
        samples = min(frames * FRAME, len(self._pcm) // 2)
        del self._pcm[: 2 * samples]
        self._origin += samples
        self._judged -= frames
