"""The frames between the transcriber and its engine child: two lengths, a JSON header, raw bytes.

| direction | header | payload |
|---|---|---|
| to the child | `{"id", "op": "hear", "task", "folder", "urgent", "starts", "sizes"}` | PCM of the windows, joined |
| to the child | `{"id", "op": "detect", "model", "folder", "urgent", "starts", "sizes"}` | PCM |
| to the child | `{"id", "op": "load", "model", "folder", "urgent"}` | |
| to the child | `{"id", "op": "cancel"}` | |
| to the parent | `{"event": "models", "models": [...]}` whenever a model came or went | |
| to the parent | `{"id", "event": "loading" \\| "started" \\| "step"}` | |
| to the parent | `{"id", "event": "done", "result"}` or `{"id", "event": "failed", "error"}` | |

The child ends when its input does.
"""

import asyncio
import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from services.transcriber.engine.protocol import Window

Header = dict[str, Any]
_LENGTHS = struct.Struct(">II")


def frame(header: Header, payload: bytes = b"") -> bytes:
    """The bytes of one frame."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(head), len(payload)) + head + payload


def read(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """The next frame of a blocking stream; None at its end."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head, payload = _LENGTHS.unpack(lengths)
    header = stream.read(head)
    body = stream.read(payload)
    return (json.loads(header), body) if len(body) == payload and len(header) == head else None


async def receive(stream: asyncio.StreamReader) -> tuple[Header, bytes] | None:
    """The next frame of an asynchronous stream; None at its end."""
    try:
        head, payload = _LENGTHS.unpack(await stream.readexactly(_LENGTHS.size))
        return json.loads(await stream.readexactly(head)), await stream.readexactly(payload)
    except asyncio.IncompleteReadError:
        return None


def pack(windows: Sequence[Window]) -> tuple[Header, bytes]:
    """Windows as header members and payload."""
    members = {"starts": [window.start for window in windows], "sizes": [len(window.pcm) for window in windows]}
    return members, b"".join(window.pcm for window in windows)


def unpack(header: Header, payload: bytes) -> list[Window]:
    """The windows of a frame."""
    windows, at = [], 0
    for start, size in zip(header["starts"], header["sizes"], strict=True):
        windows.append(Window(pcm=payload[at : at + size], start=start))
        at += size
    return windows
