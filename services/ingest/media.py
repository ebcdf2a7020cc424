"""What a recording is, for browsers: judged by its first bytes, and always a type that nothing can run."""

UNKNOWN = "application/octet-stream"
HEAD = 64
"""Bytes that are looked at."""
_MAGIC = (
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"caff", "audio/x-caf"),
    (0, b"#!AMR", "audio/amr"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "audio/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (4, b"wide", "video/quicktime"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AIF", "audio/aiff"),
)
TYPES = tuple(dict.fromkeys((*(kind for _, _, kind in _MAGIC), "audio/webm", "video/x-matroska", "audio/aac", UNKNOWN)))
"""Every type that there is."""


def media_type(head: bytes) -> str:
    """The type of a recording that begins so."""
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "audio/webm" if b"webm" in head else "video/x-matroska"
    for at, magic, kind in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind
    if len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0:
        # Layer 0 is what only ADTS has (ISO/IEC 13818-7, 6.2).
        return "audio/mpeg" if head[1] & 0b110 else "audio/aac"
    return UNKNOWN
