"""Where weights come from when they are not in the models folder: the store, installed packages, the hub."""

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from services.contracts import objects
from services.runtime.blobs import Blobs
from services.runtime.jsapi import Unavailable
from services.transcriber.engine.catalogue import CARRIERS, CATALOGUE, Carrier
from services.transcriber.engine.protocol import ModelAway
from services.transcriber.engine.weights import NEEDED

HUB_TIMEOUT = 5.0
"""Seconds that the hub has to answer; where it cannot be reached nobody is to wait for it."""


class StoredModels:
    """Models below `models/<name>/` in the object store, with their SHA256SUMS if the operator put them there."""

    label = "store"

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._files: Mapping[str, list[str]] = {}

    def has(self, name: str) -> bool:
        """Whether the last look found the model complete."""
        return set(NEEDED) <= set(self._files.get(name, ()))

    async def refresh(self) -> None:
        """List the store; while it is away, what was known stays."""
        found: dict[str, list[str]] = defaultdict(list)
        try:
            async for one in self._blobs.list(objects.MODELS):
                name, _, file = one.key.removeprefix(objects.MODELS).partition("/")
                if file and "/" not in file:
                    found[name].append(file)
        except Unavailable:
            return
        self._files = found

    async def fetch(self, name: str, into: Path) -> Mapping[str, str]:
        """Copy the model's files."""
        for file in self._files[name]:
            with (into / file).open("wb") as target:
                async for piece in self._blobs.read(f"{objects.MODELS}{name}/{file}"):
                    await asyncio.to_thread(target.write, piece)
        return {}


class Packages:
    """Models inside installed packages."""

    label = "package"

    def __init__(self, carriers: Mapping[str, Carrier] = CARRIERS) -> None:
        self._carriers = carriers

    def has(self, name: str) -> bool:
        """Whether every package that carries a piece of the model is installed."""
        carrier = self._carriers.get(name)
        return carrier is not None and all(
            find_spec(package) is not None for pieces in carrier.files.values() for package, _ in pieces
        )

    async def fetch(self, name: str, into: Path) -> Mapping[str, str]:
        """Join the pieces."""
        await asyncio.to_thread(self._join, self._carriers[name], into)
        return {}

    async def refresh(self) -> None:
        """Packages do not change while a process runs."""

    @staticmethod
    def _join(carrier: Carrier, into: Path) -> None:
        for file, pieces in carrier.files.items():
            with (into / file).open("wb") as target:
                for package, path in pieces:
                    spec = find_spec(package)
                    assert spec is not None
                    assert spec.submodule_search_locations
                    with (Path(spec.submodule_search_locations[0]) / path).open("rb") as piece:
                        shutil.copyfileobj(piece, target, 1 << 20)


class Hub:
    """Models on the Hugging Face hub, by the catalogue's names.

    `reachable` is asked again at each `refresh`, so that a machine without a way to the hub offers nothing of it and
    nobody waits for a connection.
    """

    label = "hub"

    def __init__(self, endpoint: str | None = None, probe: Callable[[str], bool] | None = None) -> None:
        self._endpoint = endpoint
        self._probe = probe or self._answers
        self._reachable = False

    def has(self, name: str) -> bool:
        """Whether the hub answered lately and the catalogue knows the model."""
        return self._reachable and name in CATALOGUE

    async def refresh(self) -> None:
        """See whether the hub answers."""
        self._reachable = await asyncio.to_thread(self._probe, "Systran/faster-whisper-tiny")

    async def fetch(self, name: str, into: Path) -> Mapping[str, str]:
        """Download a model's files; the hub's own sums of its large files are returned to be checked."""
        return await asyncio.to_thread(self._download, name, into)

    def _answers(self, repository: str) -> bool:
        from huggingface_hub import HfApi

        try:
            HfApi(endpoint=self._endpoint).model_info(repository, timeout=HUB_TIMEOUT)
        except Exception:  # noqa: BLE001 - whatever went wrong on the way, the hub cannot be used now
            return False
        return True

    def _download(self, name: str, into: Path) -> Mapping[str, str]:
        from huggingface_hub import HfApi, snapshot_download

        published = CATALOGUE[name]
        wanted = ["model.bin", "config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.*"]
        try:
            info = HfApi(endpoint=self._endpoint).model_info(
                published.repository, revision=published.revision, files_metadata=True, timeout=HUB_TIMEOUT
            )
            snapshot_download(
                published.repository,
                revision=info.sha,
                local_dir=into,
                allow_patterns=wanted,
                endpoint=self._endpoint,
                etag_timeout=HUB_TIMEOUT,
            )
        except Exception as error:  # as in _answers
            raise ModelAway("the hub did not give this model's weights") from error
        shutil.rmtree(into / ".cache", ignore_errors=True)
        return {
            file.rfilename: file.lfs.sha256
            for file in info.siblings or []
            if file.lfs is not None and (into / file.rfilename).is_file()
        }
