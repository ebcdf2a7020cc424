"""The channels of a recording, heard once each: those that hold the same samples from the beginning count as one.

A mono call saved as stereo is common, and its second channel is nobody's. Groups of equal channels only ever split.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.transcriber.prepare.voice import Voice, VoiceStream


@dataclass(frozen=True, slots=True)
class _Twins:
    channels: tuple[int, ...]
    stream: VoiceStream


class Twins:
    """Groups the channels of one recording and searches each group for voice."""

    def __init__(self, voice: Voice, channels: int) -> None:
        self._groups = [_Twins(tuple(range(channels)), voice.stream())]

    def hear(
        self, samples: NDArray[np.int16]
    ) -> Iterator[tuple[tuple[int, ...], NDArray[np.int16], NDArray[np.float32]]]:
        """Of the next samples (channels × samples): each group, its samples and their probabilities of voice."""
        self._groups = sorted((part for group in self._groups for part in _split(group, samples)), key=_first)
        for group in self._groups:
            row = samples[group.channels[0]]
            yield group.channels, row, group.stream.probabilities(row)

    @property
    def distinct(self) -> int:
        """How many different channels there are so far."""
        return len(self._groups)


def _first(group: _Twins) -> int:
    return group.channels[0]


def _split(group: _Twins, samples: NDArray[np.int16]) -> Iterator[_Twins]:
    left, is_first = list(group.channels), True
    while left:
        same = tuple(c for c in left if np.array_equal(samples[c], samples[left[0]]))
        left = [c for c in left if c not in same]
        # What was heard so far is in the state of the detector, whose arrays are replaced and never written to.
        yield _Twins(same, group.stream if is_first else copy.copy(group.stream))
        is_first = False
