"""Finds a model's weights: the models folder, the store, installed packages, the hub; in this order, sums checked.

Whatever the source, the files end up as one folder per model below the models folder, complete or not at all.
"""

import asyncio
import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from services.transcriber.engine.catalogue import ALIASES, CATALOGUE
from services.transcriber.engine.protocol import ModelAway

NEEDED = ("model.bin", "config.json", "tokenizer.json")
SUMS_FILE = "SHA256SUMS"
"""Optional list of sums in a model's folder, as `sha256sum` writes it."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Source(Protocol):
    """Somewhere models can be fetched from."""

    @property
    def label(self) -> str:
        """The source's name, for people."""
        ...

    def has(self, name: str) -> bool:
        """Whether it has this model, as far as is known; cheap, never blocks."""
        ...

    async def fetch(self, name: str, into: Path) -> Mapping[str, str]:
        """Put the model's files into an empty folder; returns the sums that it knows (file name to SHA-256)."""
        ...

    async def refresh(self) -> None:
        """Look again what there is."""
        ...


class Weights:
    """The models that can be had here."""

    def __init__(self, folder: Path, sources: Iterable[Source] = ()) -> None:
        self._folder = folder
        self._sources = tuple(sources)
        self._checked: set[Path] = set()
        self._lock = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """The catalogue, then the folders with names of their own."""
        own = sorted(p.name for p in self._folder.iterdir()) if self._folder.is_dir() else []
        return [*CATALOGUE, *(name for name in own if name not in CATALOGUE and self._complete(name))]

    def source_of(self, name: str) -> str | None:
        """Where the weights are or would come from, as a word for people; None when they cannot be had."""
        name = ALIASES.get(name, name)
        if not _NAME.fullmatch(name):
            return None
        if self._complete(name):
            return "folder"
        return next((source.label for source in self._sources if source.has(name)), None)

    async def folder_of(self, name: str) -> Path:
        """The model's folder, fetched if need be and checked once; raises ModelAway."""
        name = ALIASES.get(name, name)
        folder = self._folder / name
        async with self._lock:
            if folder in self._checked:
                return folder
            if self.source_of(name) is None:
                raise ModelAway("there are no weights for this model here")
            if not self._complete(name):
                await self._fetch(name, folder)
            await asyncio.to_thread(_check, folder, sums_of(name, folder))
            self._checked.add(folder)
            return folder

    async def refresh(self) -> None:
        """Ask every source again what it has."""
        for source in self._sources:
            await source.refresh()

    def _complete(self, name: str) -> bool:
        return bool(_NAME.fullmatch(name)) and all((self._folder / name / file).is_file() for file in NEEDED)

    async def _fetch(self, name: str, folder: Path) -> None:
        source = next(source for source in self._sources if source.has(name))
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        into = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f".{name}-", dir=self._folder))
        try:
            sums = await source.fetch(name, into)
            await asyncio.to_thread(_check, into, {**sums_of(name, into), **sums})
            # Another process may have been faster: then its folder is as good, and ours goes.
            with contextlib.suppress(FileExistsError, OSError):
                await asyncio.to_thread(into.rename, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, into, ignore_errors=True)
        if not self._complete(name):
            raise ModelAway("the weights of this model could not be put into the models folder")


def sums_of(name: str, folder: Path) -> dict[str, str]:
    """The sums that a model's files must have: the folder's own list, else the catalogue's."""
    listed = folder / SUMS_FILE
    if listed.is_file():
        lines = (line.split(maxsplit=1) for line in listed.read_text().splitlines() if line.strip())
        return {name.lstrip("*").strip(): digest for digest, name in lines}
    return dict(CATALOGUE[name].sums) if name in CATALOGUE else {}


def _check(folder: Path, sums: Mapping[str, str]) -> None:
    for file in NEEDED:
        if not (folder / file).is_file():
            raise ModelAway(f"{file} is missing in the model's folder")
    for file, wanted in sums.items():
        path = folder / file
        if not path.is_file() or _sha256(path) != wanted.lower():
            raise ModelAway(f"the SHA-256 of {file} is wrong: these are not the weights of this model")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
