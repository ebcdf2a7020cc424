"""Which demuxer reads a file, judged by its first bytes and by nothing else: no name, no probing of all formats.

Playlists, session descriptions, concatenation scripts and everything else that could make a demuxer open something
are not in the table, so FFmpeg never sees them.
"""

from collections.abc import Callable

HEAD = 64 << 10  # bytes after the ID3 tag that are looked at

Read = Callable[[int, int], bytes]  # (bytes wanted, offset) -> at most so many bytes

_MOV_ATOMS = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_MP3_KBITS = {  # by version bit: MPEG 1, then 2 and 2.5 (ISO/IEC 11172-3 table 3-B.2, layer III)
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    0: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_SAME = 0xFFFE0C000000  # of the first six bytes: sync, version, layer, rate
_ADTS_SAME = 0xFFFEFC000000  # sync, version, layer, profile, rate
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def demuxer_for(read: Read) -> str | None:
    """FFmpeg's name of the demuxer, or None for what is not one of our formats."""
    start = tag_end(read)
    head = read(HEAD, start)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head.startswith((b"#!AMR\n", b"#!AMR-WB\n")):
        return "amr"
    for magic, name in ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1aE\xdf\xa3", "matroska"), (b"caff", "caf")):
        if head.startswith(magic):
            return name
    if head[4:8] in _MOV_ATOMS:
        return "mov"
    if _frames_follow(head, _adts_length, _ADTS_SAME):
        return "aac"
    if _frames_follow(head, _mp3_length, _MP3_SAME):
        return "mp3"
    return None


def tag_end(read: Read) -> int:
    """Where the audio begins: after any ID3v2 tags (id3.org/id3v2.4.0-structure, section 3.1)."""
    at = 0
    for _ in range(4):
        head = read(10, at)
        if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:10]):
            break
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        at += 10 + size + (10 if head[5] & 0x10 else 0)
    return at


def knows_its_length(demuxer: str, read: Read) -> bool:
    """Whether the length that FFmpeg gives was written by who made the file, and not guessed from the file's size."""
    if demuxer == "mp3":
        head = read(HEAD, tag_end(read))
        return any(0 <= head.find(name) < 2048 for name in (b"Xing", b"Info", b"VBRI"))
    if demuxer == "wav":
        return read(4, 0) != b"RIFF" or promised_bytes(read) > 0
    return demuxer not in ("aac", "amr")


def promised_bytes(read: Read) -> int:
    """How long a WAV says it is, which FFmpeg does not compare with what there is; 0 if it does not say.

    Sizes near 2 and 4 GiB are what programs write that do not know yet.
    """
    head = read(8, 0)
    size = int.from_bytes(head[4:8], "little") + 8
    return size if head[:4] == b"RIFF" and size < 0x7FFF_0000 else 0


def _frames_follow(head: bytes, length: Callable[[int], int], same: int) -> bool:
    """Three frames in a row, or one at the very beginning of a file that ends within the next two.

    A sync word alone is found in any random bytes; three whose headers agree in the bits of `same` are not.
    `length` takes the six bytes at a frame's beginning as a number and gives the bytes of the frame, 0 for none.
    """
    at = head.find(b"\xff")
    while 0 <= at <= len(head) - 6:
        first = int.from_bytes(head[at : at + 6])
        place, seen = at, 0
        while seen < 3 and place + 6 <= len(head):
            word = int.from_bytes(head[place : place + 6])
            size = length(word) if (word ^ first) & same == 0 else 0
            if not size:
                break
            place, seen = place + size, seen + 1
        if seen == 3 or (seen and at == 0 and place + 6 > len(head)):
            return True
        at = head.find(b"\xff", at + 1)
    return False


def _mp3_length(word: int) -> int:
    version, layer = word >> 35 & 3, word >> 33 & 3
    bits, rate = word >> 28 & 15, word >> 26 & 3
    if word >> 37 != 0x7FF or version == 1 or layer != 1 or rate == 3:
        return 0
    kbits = _MP3_KBITS[version & 1][bits]
    slots = (144 if version == 3 else 72) * kbits * 1000 // _MP3_RATES[version][rate]
    return slots + (word >> 25 & 1) if kbits else 0


def _adts_length(word: int) -> int:
    """ISO/IEC 13818-7, 6.2: the length includes the header of seven bytes."""
    size = word >> 5 & 0x1FFF
    return size if word >> 36 == 0xFFF and not word >> 33 & 3 and (word >> 26 & 15) < 13 and size >= 7 else 0
