"""The page's files: found by their names in a list, so that no path of a client's ever reaches the file system."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
"""The files that come with the service."""
INDEX = "index.html"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "webmanifest": "application/manifest+json; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "svg": "image/svg+xml; charset=utf-8",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
}
"""What is served, by the ending of a name; nothing else is."""
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent. `etag` is quoted, as it stands in the header."""

    data: bytes
    kind: str
    etag: str


class Assets:
    """The files of one folder, without those below it. Read once, or at every look with `fresh`, for who edits them."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self._folder = folder
        self.fresh = fresh
        self._files = read(folder)

    def find(self, name: str) -> Asset | None:
        """The file of this name."""
        if self.fresh:
            self._files = read(self._folder)
        return self._files.get(name)


def read(folder: Path) -> Mapping[str, Asset]:
    """Every file of a folder that is to be served, by its name."""
    found = {}
    for path in sorted(folder.iterdir()):
        kind = TYPES.get(path.suffix[1:])
        if kind is not None and _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found[path.name] = Asset(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
    return found
