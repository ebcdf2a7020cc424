"""How long an Opus packet sounds, told without decoding it: RFC 6716, section 3."""

_FRAME = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
"""Samples of a frame at 48 kHz, by the packet's configuration (section 3.1, table 2)."""
_LEAST, _MOST = 2, 1275
"""Bytes of a frame that holds sound, and of any frame."""
_LONGEST = 5760
"""Samples of the longest packet, 120 ms."""


def samples_in(packet: bytes) -> int:
    """Samples at 48 kHz of each channel.

    0 for what is malformed, and for what stands for a packet that was not sent: a decoder must say what that is worth.
    """
    if not packet:
        return 0
    each, code, size = _FRAME[packet[0] >> 3], packet[0] & 3, len(packet) - 1
    if code == 0:
        return each if _LEAST <= size <= _MOST else 0
    if code == 1:
        return 2 * each if size % 2 == 0 and _LEAST <= size // 2 <= _MOST else 0
    count, sizes = (2, _two(packet)) if code == 2 else _many(packet)
    if not sizes or min(sizes) < _LEAST or max(sizes) > _MOST or count * each > _LONGEST:
        return 0
    return count * each


def _two(packet: bytes) -> list[int]:
    """Bytes of both frames of a packet of code 2; none where they do not fit."""
    first, at = _length(packet, 1)
    return [first, len(packet) - at - first]


def _many(packet: bytes) -> tuple[int, list[int]]:
    """Frames of a packet of code 3, and the bytes of each; none where they do not fit."""
    if len(packet) < 2:
        return 0, []
    flags, at, end = packet[1], 2, len(packet)
    count = flags & 63
    if flags & 64:  # padding, whose length takes as many bytes as it needs
        more = 255
        while more == 255:
            if at >= end:
                return 0, []
            more = packet[at]
            at += 1
            end -= min(more, 254)
    if not flags & 128:
        return count, [(end - at) // count] if count and (end - at) % count == 0 else []
    sizes: list[int] = []
    for _ in range(count - 1):
        size, at = _length(packet[:end], at)
        sizes.append(size)
    return count, [*sizes, end - at - sum(sizes)] if count else []


def _length(packet: bytes, at: int) -> tuple[int, int]:
    """A frame's length as it is written at `at`, and where it ends; -1 where nothing is written."""
    if at >= len(packet):
        return -1, at
    if packet[at] < 252:
        return packet[at], at + 1
    if at + 1 >= len(packet):
        return -1, at
    return packet[at] + 4 * packet[at + 1], at + 2
