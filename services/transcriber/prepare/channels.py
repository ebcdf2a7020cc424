"""The channels of a recording, each cut by itself; those that hold the same samples so far are cut once, for all.

What an earlier preparation has cut is binding for each channel, so channels that it told apart are told apart from the
beginning.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from services.contracts.parts import Part
from services.transcriber.prepare.cut import Cut, Cutter
from services.transcriber.prepare.media import Block, DecoderDied

Bound = tuple[tuple[int, int, int], ...]
"""Start, end and overlap of each range that is binding, in samples and in order."""


@dataclass(frozen=True, slots=True)
class _Group:
    channels: tuple[int, ...]
    cutter: Cutter


class Channels:
    """Takes the blocks of all channels, gives cuts that say which channels they are of.

    Holds little more than the longest part of each channel.
    """

    def __init__(self, cutter: Callable[[Bound], Cutter], bound: Collection[Part]) -> None:
        self._cutter = cutter
        self._bound = sorted(bound, key=lambda part: part.start)
        self._groups: list[_Group] = []

    def feed(self, block: Block) -> list[Cut]:
        """The cuts that have become certain with this block. Raises DecoderDied for one that cannot be."""
        heard = set(block.channels)
        known = {channel for group in self._groups for channel in group.channels}
        if not heard & known:
            self._begin(block.channels)
        elif not heard <= known:
            raise DecoderDied("the decoder answered nonsense")
        cuts: list[Cut] = []
        for group in [group for group in self._groups if heard & set(group.channels)]:
            mine = self._part_of(group, heard)
            cuts += (replace(cut, channels=mine.channels) for cut in mine.cutter.feed(block))
        return cuts

    def close(self) -> list[Cut]:
        """The rest, at the end of the recording. Raises DecoderDied when a channel was left out."""
        if len({group.cutter.heard for group in self._groups}) > 1:
            raise DecoderDied("the decoder answered nonsense")
        return [replace(cut, channels=group.channels) for group in self._groups for cut in group.cutter.close()]

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The channels, those together that are the same."""
        return tuple(sorted(group.channels for group in self._groups))

    def known(self, cut: Cut) -> Part | None:
        """The part that this cut was in an earlier preparation."""
        for part in self._bound:
            if (part.start, part.end) == (cut.start, cut.end) and cut.channels[0] in part.of:
                return part
        return None

    def _begin(self, channels: tuple[int, ...]) -> None:
        apart: dict[tuple[int, ...], list[int]] = {}
        for channel in channels:
            apart.setdefault(tuple(part.n for part in self._bound if channel in part.of), []).append(channel)
        for together in apart.values():
            bound = tuple((part.start, part.end, part.overlap) for part in self._bound if together[0] in part.of)
            self._groups.append(_Group(tuple(together), self._cutter(bound)))

    def _part_of(self, group: _Group, heard: set[int]) -> _Group:
        """The channels of a group that are heard now, apart from those that are not any more the same."""
        mine = tuple(channel for channel in group.channels if channel in heard)
        if mine == group.channels:
            return group
        others = tuple(channel for channel in group.channels if channel not in heard)
        # Before this block, which only some of them hold. All that is bound holds all of them, so both keep it.
        apart = [_Group(mine, group.cutter), _Group(others, group.cutter.fork())]
        self._groups = sorted([*(g for g in self._groups if g is not group), *apart], key=lambda g: g.channels)
        return apart[0]
