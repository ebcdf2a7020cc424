"""What every measurement stands on: recordings, stacks with a warm engine, bare scripts."""

import asyncio
import itertools
import json
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from bench.client import Client, sign_up
from bench.speech import Speech
from bench.wer import WordErrors
from infra.stack import Stack

ANSWER_LIMIT = 16 << 20
"""Bytes of one line of a bare script's answers."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured. Seconds and bytes."""

    long: float = 600.0
    hours: float = 36_000.0
    upload: int = 1 << 30
    clips: int = 40
    """Pairs of clips: their quantiles need more than a ratio's median does."""
    behind: int = 5
    """Long recordings behind which clips are sent."""
    relay: float = 60.0
    """Seconds for which events are streamed."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Settings of a transcriber that is to be killed between two parts of the long recording."""


FULL = Sizes()
_SMALL_PARTS = {"MIN": "15", "MAX": "30", "FIRST": "15"}
SHORT = replace(
    FULL,
    long=90.0,
    hours=1800.0,
    upload=64 << 20,
    clips=6,
    behind=1,
    relay=10.0,
    parts={f"DESIFRE_PART_SECONDS_{name}": value for name, value in _SMALL_PARTS.items()},
)


class Bare:
    """A bare script: a process of its own that does one recording at a time (bench/bare.py)."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def transcribe(self, path: Path) -> dict[str, Any]:
        """`text`, and what else the script says, when it is done."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare script ended with code {await self._process.wait()}")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer


class Service:
    """A running stack and a way to be its client."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, model: str) -> None:
        self.stack = stack
        self.session = session
        self._options = {"model": model, "language": "en"}

    async def client(self) -> Client:
        """A new tenant. The language is given, to the bare scripts too: detection is another measurement."""
        return await sign_up(self.session, self.stack.http_url, self._options)

    def pid(self, name: str) -> int:
        """Of one of the stack's processes."""
        pid = self.stack.process(name).pid
        assert pid is not None
        return pid


class Rig:
    """Hands out what a row needs; everything lies in one folder, which goes at the end."""

    def __init__(self, folder: Path, speech: Speech, sizes: Sizes, pairs: int, model: str) -> None:
        self.folder = folder
        self.speech = speech
        self.sizes = sizes
        self.pairs = pairs
        self.errors = WordErrors() if speech.real else None
        self.model = model
        self._models = folder / "models"
        self._homes = itertools.count(1)

    @property
    def environment(self) -> dict[str, str]:
        """Of every stack: one folder of weights, put together once; an engine that stays as long as a row lasts."""
        return {"DESIFRE_MODELS_DIR": str(self._models), "DESIFRE_IDLE_AFTER": "3600"}

    @asynccontextmanager
    async def home(self) -> AsyncIterator[Path]:
        """A folder for a stack that starts from nothing."""
        home = self.folder / f"home-{next(self._homes)}"
        try:
            yield home
        finally:
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    @asynccontextmanager
    async def service(self, settings: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
        """A stack of its own, whose engine has the model loaded and warm. `settings` are environment variables."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with (
            self.home() as home,
            Stack(home, settings={"all": self.environment | dict(settings or {})}) as stack,
            aiohttp.ClientSession(timeout=timeout) as session,
        ):
            service = Service(stack, session, self.model)
            client = await service.client()
            for clip in self.speech.clips(2, 8, 10):
                await client.transcribe(clip.path)
            yield service

    @asynccontextmanager
    async def bare(self, how: str) -> AsyncIterator[Bare]:
        """A bare script that is warm: `stock`, `stock-batched` or `ours` (see bench/bare.py)."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.bare", how, self.model, str(self._models)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=ANSWER_LIMIT,
        )
        try:
            bare = Bare(process)
            for clip in self.speech.clips(2, 8, 10):
                await bare.transcribe(clip.path)
            yield bare
        finally:
            assert process.stdin
            process.stdin.close()
            await process.wait()

    def big_file(self) -> Path:
        """Bytes of the size of the upload, which no compression helps and no decoder reads."""
        path = self.folder / "big"
        if not path.exists():
            with path.open("wb") as out, Path("/dev/urandom").open("rb") as random:
                for _ in range(self.sizes.upload >> 20):
                    out.write(random.read(1 << 20))
        return path
