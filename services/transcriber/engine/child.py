"""The engine child: `python -m services.transcriber.engine.child PLAN`. It holds the models and does the computing.

Frames come in on standard input and go out on standard output (see `pipe`). One thread reads, one thread per worker
hears; requests that are urgent are taken first. The child ends with its input, so that no engine survives its parent.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from services.transcriber.engine.desk import Courtesy, Desk
from services.transcriber.engine.hearer import Cancelled, Hearer, Loaded, Plan, Step
from services.transcriber.engine.pipe import Header, frame, read, unpack
from services.transcriber.engine.protocol import EngineFailed, Task, WindowResult

PR_SET_PDEATHSIG = 1


class Server:
    """Reads requests, has them heard, writes answers."""

    def __init__(self, source: BinaryIO, target: BinaryIO) -> None:
        self._source = source
        self._target = target
        self._writing = threading.Lock()
        self._desk = Desk()

    def models(self, loaded: list[Loaded]) -> None:
        """Tell the parent which models are in memory."""
        self._send({"event": "models", "models": [asdict(model) for model in loaded]})

    def serve(self, hearer: Hearer, workers: int) -> None:
        """Until the input ends."""
        courtesy = Courtesy(max(1, workers - 1))
        for number in range(workers):
            threading.Thread(target=self._work, args=(hearer, courtesy), name=f"worker {number}", daemon=True).start()
        while (found := read(self._source)) is not None:
            header, payload = found
            if header["op"] == "cancel":
                self._desk.cancel(header["id"])
            else:
                self._desk.put(header, payload)

    def _work(self, hearer: Hearer, courtesy: Courtesy) -> None:
        while True:
            header, payload = self._desk.take()
            number: int = header["id"]
            with courtesy.working(header["urgent"]) as give_way:
                answer = self._answer(hearer, header, payload, give_way)
            self._desk.done(number)
            self._send({"id": number, **answer})

    def _answer(self, hearer: Hearer, header: Header, payload: bytes, give_way: Callable[[], None]) -> Header:
        def step(name: str) -> None:
            give_way()
            if self._desk.cancelled(header["id"]):
                raise Cancelled
            self._send({"id": header["id"], "event": name})

        try:
            return {"event": "done", "result": _do(hearer, header, payload, step)}
        except Cancelled:
            return {"event": "failed", "error": "cancelled"}
        except EngineFailed as error:
            return {"event": "failed", "error": error.reason}
        except Exception as error:  # noqa: BLE001 - one bad request must not end the others
            # The kind alone: a message may quote what was heard.
            return {"event": "failed", "error": f"the engine failed: {type(error).__name__}"}

    def _send(self, header: Header) -> None:
        data = frame(header)
        with self._writing:
            self._target.write(data)
            self._target.flush()


def _do(hearer: Hearer, header: Header, payload: bytes, step: Step) -> Any:
    folder = Path(header["folder"])
    if header["op"] == "load":
        return hearer.load(header["model"], folder, step)
    windows = unpack(header, payload)
    if header["op"] == "detect":
        return hearer.detect(windows, header["model"], folder, step)
    results = hearer.hear(windows, _task(header["task"]), folder, step)
    return [_plain(result) for result in results]


def _task(members: dict[str, Any]) -> Task:
    suppressed = members.pop("suppress_tokens")
    return Task(**members, suppress_tokens=None if suppressed is None else tuple(suppressed))


def _plain(result: WindowResult) -> Header:
    segments = [segment.model_dump(mode="json") for segment in result.segments]
    return {
        "start": result.start,
        "end": result.end,
        "segments": segments,
        "language": result.language,
        "suspect": result.suspect,
        "reason": result.reason,
        "failed": result.failed,
    }


def _hearer(plan: Plan, server: Server) -> Hearer:
    # Imported here: the digest engine starts in a moment and in little memory because it imports no CTranslate2.
    if plan.engine == "digest":
        from services.transcriber.engine.digest import DigestHearer

        return DigestHearer(plan.digest_speed)
    from services.transcriber.engine.shelf import Shelf
    from services.transcriber.engine.whisper import WhisperHearer

    return WhisperHearer(
        Shelf(
            device=plan.device,
            compute_type=plan.compute_type,
            workers=plan.workers,
            memory=plan.memory,
            idle_after=plan.models_idle_after,
            pinned=frozenset(plan.pinned),
            changed=server.models,
        )
    )


def main() -> None:
    """Serve until the input ends."""
    plan = Plan.decode(sys.argv[1])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != plan.parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent drains first
    os.nice(plan.niceness)
    # Standard output is the pipe: whatever a library prints goes to standard error.
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server = Server(sys.stdin.buffer, target)
    server.serve(_hearer(plan, server), plan.workers)
    # At once, without waiting for workers in the middle of a batch: nobody reads their answers.
    os._exit(0)


if __name__ == "__main__":
    main()
