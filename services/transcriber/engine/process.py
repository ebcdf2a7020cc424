"""The engine as the transcriber sees it: a child process, started by the first request and ended when idle."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from services.contracts.transcript import Segment
from services.transcriber.engine.catalogue import ALIASES
from services.transcriber.engine.hearer import Plan
from services.transcriber.engine.link import Link
from services.transcriber.engine.pipe import Header, pack
from services.transcriber.engine.protocol import ModelInfo, Task, Window, WindowResult
from services.transcriber.engine.weights import Weights

LOAD_WITHIN = 300.0
"""Seconds in which a model must be loaded: 3 GB of weights from a slow disk."""
DETECT_SECONDS = 90.0
"""Audio that is sent for the detection of a language."""
_PRIVATE = "DESIFRE_"


class EngineProcess:
    """Implements `Engine`: nothing is computed here. Windows go to the child, results come back."""

    def __init__(
        self, plan: Plan, weights: Weights, *, slots: int, idle_after: float, load_within: float = LOAD_WITHIN
    ) -> None:
        self.device = plan.device
        self.slots = slots
        self.express = plan.workers - slots
        self._plan = plan
        self._weights = weights
        self._idle_after = idle_after
        self._load_within = load_within
        self._child: Link | None = None
        self._costs: dict[str, int] = {}
        self._changing = asyncio.Lock()
        self._gone = asyncio.Event()
        self._gone.set()
        self._timer: asyncio.TimerHandle | None = None
        self._retiring: asyncio.Task[None] | None = None

    @property
    def last_progress(self) -> float:
        """`time.monotonic()` of the child's last sign of life; minus infinity without a child."""
        return self._child.last_progress if self._child else float("-inf")

    @property
    def advancing(self) -> bool:
        """Whether a request is being worked on; each is bounded by its budget or the deadline of a load."""
        return self._child is not None and any(request.working for request in self._child.requests.values())

    @property
    def pid(self) -> int | None:
        """The process id of the child, if there is one."""
        return self._child.pid if self._child else None

    async def transcribe(
        self, windows: Sequence[Window], task: Task, *, budget: float | None = None, urgent: bool = False
    ) -> list[WindowResult]:
        """See `Engine.transcribe`."""
        if not windows:
            return []
        members, pcm = pack(windows)
        header = {"op": "hear", "task": asdict(task), "urgent": urgent, **members}
        results = await self._ask(header, pcm, task.model, budget)
        return [_result(result) for result in results]

    async def detect_language(
        self, windows: Sequence[Window], model: str, *, budget: float | None = None, urgent: bool = False
    ) -> tuple[str, float]:
        """See `Engine.detect_language`."""
        sent: list[Window] = []
        for window in windows:
            sent.append(window)
            if sum(one.seconds for one in sent) >= DETECT_SECONDS:
                break
        members, pcm = pack(sent)
        header = {"op": "detect", "model": model, "urgent": urgent, **members}
        language, probability = await self._ask(header, pcm, model, budget)
        return str(language), float(probability)

    async def load(self, model: str) -> ModelInfo:
        """See `Engine.load`."""
        await self._ask({"op": "load", "model": model, "urgent": True}, b"", model, None)
        return next(info for info in self.models() if info.name == ALIASES.get(model, model))

    def models(self) -> list[ModelInfo]:
        """See `Engine.models`. The cost of a model that was loaded once is remembered."""
        loaded = self._child.loaded if self._child else set()
        costs = self._costs | (self._child.costs if self._child else {})
        return [
            ModelInfo(
                name=name,
                available=self.available(name),
                multilingual=not name.endswith(".en"),
                loaded=name in loaded,
                pinned=name in self._plan.pinned,
                bytes=costs.get(name),
                source=self._weights.source_of(name),
            )
            for name in self._weights.names
        ]

    def available(self, name: str) -> bool:
        """See `Engine.available`."""
        return self._weights.source_of(name) is not None

    async def idle(self) -> None:
        """See `Engine.idle`."""
        await self._gone.wait()

    async def close(self) -> None:
        """See `Engine.close`."""
        self._rest(None)
        if self._retiring is not None:
            await self._retiring
        async with self._changing:
            await self._end()

    async def _ask(self, header: Header, payload: bytes, model: str, budget: float | None) -> Any:
        folder = await self._weights.folder_of(model)
        async with self._changing:
            self._rest(None)
            child = self._child
            if child is None or child.reading.done():
                child = await self._start()
        try:
            return await child.ask({**header, "folder": str(folder)}, payload, budget)
        finally:
            if child is self._child and not child.requests:
                self._rest(self._idle_after)

    async def _start(self) -> Link:
        # Without our settings: the engine reads strangers' audio and needs none of our secrets.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)}
        environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.transcriber.engine.child",
            self._plan.encode(),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
        )
        self._child = Link(process, self._load_within)
        self._child.reading.add_done_callback(lambda _: self._ended())
        self._gone.clear()
        return self._child

    def _ended(self) -> None:
        if self._child is not None and self._child.reading.done():
            self._costs |= self._child.costs
            self._child = None
            self._gone.set()

    def _rest(self, seconds: float | None) -> None:
        """Let the child end after so long without a request; None takes that back."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, self._retire)

    def _retire(self) -> None:
        self._retiring = asyncio.create_task(self._retired(), name="engine retires")

    async def _retired(self) -> None:
        async with self._changing:
            if self._child is not None and not self._child.requests:
                await self._end()

    async def _end(self) -> None:
        if self._child is not None:
            await self._child.stop()


def _result(plain: Header) -> WindowResult:
    segments = tuple(Segment.model_validate(segment) for segment in plain.pop("segments"))
    return WindowResult(segments=segments, **plain)
