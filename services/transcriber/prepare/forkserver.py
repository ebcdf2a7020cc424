"""The decoder's process: warmed once and forked for every file, which so gets a fresh process within milliseconds.

`python -m services.transcriber.prepare.forkserver FD`, where FD is a Unix socket (SEQPACKET) to the parent. Single
threaded, and nothing secret in its environment. Messages on the socket:

    server -> parent   the layers of the sandbox that hold, as JSON, once it is ready
    parent -> server   Order as JSON, with three descriptors: the recording (or where its ranges come in), the pipe for
                       its samples, and a socket that stands for the decoder's life

On that last socket the server says the decoder's process id, and its wait status at the end. When the parent closes
it, the decoder is killed; when the parent is gone, all are.
"""

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
from dataclasses import dataclass

from services.contracts.errors import Code
from services.transcriber.prepare.decode import Recording
from services.transcriber.prepare.jail import close_all_but, die_with_parent, lock_in
from services.transcriber.prepare.media import (
    Limits,
    MediaError,
    Order,
    pack_block,
    pack_info,
    pack_refusal,
)
from services.transcriber.prepare.reading import Flow, Ranged, Source
from services.transcriber.prepare.twins import Twins
from services.transcriber.prepare.voice import Voice

MESSAGE = 4096


@dataclass(frozen=True)
class Child:
    """A decoder at work. `exit` is a pidfd, readable when it has ended; `life` is the parent's interest in it."""

    pid: int
    exit: int
    life: socket.socket


def decode(source: Source | Ranged | Flow, out: int, order: Order, voice: Voice) -> None:
    """One recording from file to pipe: blocks, then what it was; or why not."""
    try:
        recording = Recording(source, order.limits, separate=order.separate, wanted=order.wanted)
        twins: Twins | None = None
        for samples in recording.blocks():
            twins = twins or Twins(voice, len(samples))
            for channels, pcm, speech in twins.hear(samples):
                for field in pack_block(channels, pcm.tobytes(), speech.tobytes()):
                    _write(out, field)
            recording.check_length(twins.distinct)
        _write(out, pack_info(recording.info))
    except MediaError as error:
        _write(out, pack_refusal(error))
    except MemoryError:
        _write(out, pack_refusal(MediaError(Code.MEDIA_LIMITS, "Decoding it takes more memory than is allowed.")))


def _write(out: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def _be_decoder(server: int, source: int, out: int, order: Order, voice: Voice) -> None:
    """What a child does with its life."""
    status = 70
    try:
        die_with_parent()
        if os.getppid() != server:  # gone before the kernel knew
            return
        gc.disable()  # a collection would copy the pages shared with the server
        close_all_but(source, out)
        recording = _recording(source, out, order)
        lock_in(out, order.limits.memory_bytes, order.limits.cpu_ceiling)
        decode(recording, out, order, voice)
        status = 0
    except BrokenPipeError:  # nobody listens any more
        status = 0
    finally:
        os._exit(status)


def _recording(source: int, out: int, order: Order) -> Source | Ranged | Flow:
    if order.size is not None:
        return Ranged(source, lambda wish: _write(out, wish), order.size)
    return Flow(source) if order.limits.live else Source(source)


class Server:
    """Forks a decoder per request and buries it. One thread, one loop, no state but the children."""

    def __init__(self, control: socket.socket, voice: Voice) -> None:
        self._control = control
        self._voice = voice
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Until the parent has gone."""
        self._control.send(json.dumps(self._probe()).encode())
        self._selector.register(self._control, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                child: Child | None = key.data
                if child is None:
                    if not self._take_request():
                        return  # the children die with us
                elif key.fd == child.exit:
                    self._bury(child)
                elif child.life.fileno() >= 0 and not self._is_wanted(child):  # unless buried a moment ago
                    self._selector.unregister(child.life)
                    signal.pidfd_send_signal(child.exit, signal.SIGKILL)

    def _take_request(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._control, MESSAGE, 3)
        if not message:
            return False
        source, out, life = fds
        order = Order.from_json(message)
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_decoder(server, source, out, order, self._voice)
        os.close(source)
        os.close(out)
        child = Child(pid, os.pidfd_open(pid), socket.socket(fileno=life))
        self._selector.register(child.exit, selectors.EVENT_READ, child)
        self._selector.register(child.life, selectors.EVENT_READ, child)
        _tell(child, pid)
        return True

    def _is_wanted(self, child: Child) -> bool:
        try:
            return bool(child.life.recv(1))
        except ConnectionError:
            return False

    def _bury(self, child: Child) -> None:
        self._selector.unregister(child.exit)
        with contextlib.suppress(KeyError):  # closed by the parent already
            self._selector.unregister(child.life)
        _, status = os.waitpid(child.pid, 0)
        _tell(child, status)
        os.close(child.exit)
        child.life.close()

    def _probe(self) -> tuple[str, ...]:
        """Which layers hold on this machine, found out by decoding behind them. Raises OSError where that fails."""
        reading, writing = os.pipe()
        source = silent_wav()
        recording = Source(source)
        pid = os.fork()
        if pid == 0:
            layers = lock_in(writing, Limits().memory_bytes, Limits().cpu_ceiling)
            _write(writing, json.dumps(layers).encode() + b"\n")
            decode(recording, writing, Order(Limits()), self._voice)
            os._exit(0)
        os.close(source)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            held, _, records = answer.read().partition(b"\n")
        _, status = os.waitpid(pid, 0)
        if status or b"decoded_samples" not in records:
            raise OSError(f"decoding does not work inside the sandbox ({held.decode()}; status {status})")
        return tuple(json.loads(held))


def _tell(child: Child, number: int) -> None:
    with contextlib.suppress(OSError):
        child.life.send(str(number).encode())


def silent_wav(cut_to: int = -1) -> int:
    """A descriptor of a second of silence, 44.1 kHz stereo, or of its first bytes."""
    rate, width, size = 44_100, 4, 176_400
    riff = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16)
    content = riff + struct.pack("<HHIIHH4sI", 1, 2, rate, rate * width, width, 16, b"data", size) + bytes(size)
    source = os.memfd_create("silence")
    os.write(source, content[:cut_to] if cut_to >= 0 else content)
    return source


def warm(voice: Voice) -> None:
    """Decodes one file and refuses another, so that no child has to import or initialise anything."""
    sink = os.open(os.devnull, os.O_WRONLY)
    for source in (silent_wav(), silent_wav(cut_to=30)):
        decode(Source(source), sink, Order(Limits()), voice)
        os.close(source)
    os.close(sink)
    gc.collect()
    gc.freeze()


def main() -> None:
    """Serves until the parent closes its end of the socket."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who then lets us go
    control = socket.socket(fileno=int(sys.argv[1]))
    voice = Voice()
    warm(voice)
    Server(control, voice).run()


if __name__ == "__main__":
    main()
