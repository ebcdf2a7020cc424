"""Client file names: kept as a label, given back as an attachment, never used as a path."""

import unicodedata
from urllib.parse import quote

LONGEST = 255


def clean_name(raw: str | None) -> str | None:
    """The last component of a client's file name without control and direction characters; None when nothing stays."""
    if not raw:
        return None
    last = raw.replace("\\", "/").rsplit("/", 1)[-1]
    # Cc control, Cf direction marks and the like, Cs halves of surrogates (bytes that were no UTF-8).
    kept = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    return kept.strip(" .")[:LONGEST] or None


def attachment(name: str) -> str:
    """The Content-Disposition of a download (RFC 6266), which no browser opens in place."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
