"""The walls around a decoder: what it may do, how long it may live, and that it never outlives who asked."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.transcriber.prepare.media import DecoderDied, Limits
from services.transcriber.prepare.sandbox import FULL, LEAST, Sandbox, SandboxTooWeak
from tests import media
from tests.decoding import decode, opened

# Run after the walls are up, in a process of its own; each line of the answer is what became of one attempt.
PRISONER = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading
from services.transcriber.prepare.jail import lock_in
out, other, sibling = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
spare = os.open(os.devnull, os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
PAGE = os.sysconf("SC_PAGE_SIZE")
layers = lock_in(out, 1 << 30, 10)

def attempt(what):
    try:
        what()
        return "done"
    except Exception as error:
        return type(error).__name__

def executable():
    libc.mmap.restype = ctypes.c_void_p
    if libc.mmap(None, PAGE, 7, 0x22, -1, 0) in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap")

attempts = {
    "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "list": lambda: os.listdir("/"),
    "stat": lambda: os.stat("/"),
    "create": lambda: os.open("/tmp/escaped", os.O_WRONLY | os.O_CREAT),
    "proc": lambda: os.readlink("/proc/self/exe"),
    "tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": lambda: socket.socketpair(),
    "fork": lambda: os.fork() or os._exit(9),
    "thread": lambda: threading.Thread(target=print).start(),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(sibling, signal.SIGKILL),
    "write elsewhere": lambda: os.write(other, b"x"),
    "duplicate": lambda: os.dup(spare),
    "executable memory": executable,
    "two gigabytes": lambda: bytearray(2 << 30),
    "more memory allowed": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    "root again": lambda: os.setuid(0),
    "shared memory": lambda: os.memfd_create("x"),
}
answers = {name: attempt(what) for name, what in attempts.items()}
os.write(out, json.dumps([list(layers), answers]).encode())
os._exit(0)
"""


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox of the test's own, since it may not survive."""
    sandbox = Sandbox(Limits(stall_seconds=60))
    yield sandbox
    await sandbox.close()


@pytest.fixture(scope="module")
def long_recording() -> bytes:
    """Twenty minutes that take seconds to decode and few bytes to hold."""
    return media.encode(media.silence(20 * 60), "flac")


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits for a condition and fails when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def test_a_prisoner_can_do_nothing() -> None:
    """Behind the walls no file opens, no socket, process, thread or program starts, and nothing else can be written."""
    reading, out = os.pipe()
    kept, other = os.pipe()
    with subprocess.Popen(["sleep", "60"]) as sibling:
        try:
            argv = [sys.executable, "-c", PRISONER, str(out), str(other), str(sibling.pid)]
            subprocess.run(argv, pass_fds=[out, other], check=True, timeout=60, env={"OPENBLAS_NUM_THREADS": "1"})
            assert sibling.poll() is None
        finally:
            sibling.kill()
    os.close(out)
    os.close(other)
    with os.fdopen(reading, "rb") as answer, os.fdopen(kept, "rb") as untouched:
        layers, answers = json.loads(answer.read())
        assert untouched.read() == b""
    assert set(layers) >= LEAST
    assert {name: result for name, result in answers.items() if result == "done"} == {}


async def test_the_level_is_known(sandbox: Sandbox) -> None:
    """After the start the sandbox says which walls stand on this machine."""
    assert sandbox.level == "weak"
    await sandbox.start()
    assert sandbox.layers >= LEAST
    assert sandbox.level == ("full" if sandbox.layers >= FULL else "reduced")  # a kernel may lack Landlock


async def test_too_weak_a_sandbox_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the walls that must stand do not, the start fails, unless the operator wants it so."""
    monkeypatch.setattr("services.transcriber.prepare.sandbox.LEAST", frozenset({"a wall that no kernel has"}))
    monkeypatch.setattr("services.transcriber.prepare.sandbox.FULL", frozenset({"a wall that no kernel has"}))
    with pytest.raises(SandboxTooWeak):
        await Sandbox().start()
    willing = Sandbox(allow_weak=True)
    await willing.start()
    assert willing.level == "weak"
    await willing.close()


async def test_the_decoder_knows_no_secret(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of our environment but the module path reaches the process that reads strangers' bytes."""
    monkeypatch.setenv("DESIFRE_STORE_SECRET_KEY", "canary-secret")
    with opened(media.encode(media.tone(60), "wav")) as fd:
        async with sandbox.decode(fd) as recording:
            environment = Path(f"/proc/{recording.pid}/environ").read_bytes()
    assert b"canary-secret" not in environment
    assert b"PYTHONPATH=" in environment


async def test_a_decoder_has_the_files_it_needs_and_no_others(sandbox: Sandbox, long_recording: bytes) -> None:
    """A decoder holds two descriptors: the recording and the pipe."""
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            assert len(list(Path(f"/proc/{recording.pid}/fd").iterdir())) == 2


async def test_leaving_early_kills_the_decoder(sandbox: Sandbox, long_recording: bytes) -> None:
    """Whoever stops listening, by a cancellation too, leaves no decoder behind."""
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            assert alive(recording.pid)
        await until(lambda: not alive(recording.pid))

        started = asyncio.Event()

        async def listen() -> int:
            async with sandbox.decode(fd) as recording:
                pids.append(recording.pid)
                async for _ in recording:
                    started.set()
            return 0

        pids: list[int] = []
        task = asyncio.create_task(listen(), name="listener")
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not alive(pids[0]))


async def test_a_killed_decoder_is_reported(sandbox: Sandbox, long_recording: bytes) -> None:
    """A decoder that is killed ends its own recording with DecoderDied, and the next one decodes."""
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            os.kill(recording.pid, signal.SIGSEGV)
            with pytest.raises(DecoderDied, match="SIGSEGV"):
                async for _ in recording:
                    pass
    assert (await decode(sandbox, media.encode(media.tone(1), "wav"))).seconds == 1


async def test_a_decoder_that_hangs_is_given_up(long_recording: bytes) -> None:
    """A decoder that does not get on while somebody waits for it dies after the time allowed."""
    sandbox = Sandbox(Limits(stall_seconds=5))  # its start counts, too
    with contextlib.ExitStack() as stack:
        fd = stack.enter_context(opened(long_recording))
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            os.kill(recording.pid, signal.SIGSTOP)
            with pytest.raises(DecoderDied, match="does not get on"):
                async for _ in recording:
                    pass
        await until(lambda: not alive(recording.pid))
    await sandbox.close()


async def test_a_decoder_that_computes_too_long_is_given_up(long_recording: bytes) -> None:
    """Processor time is allowed in proportion to what has been decoded; beyond it the decoder dies."""
    sandbox = Sandbox(Limits(cpu_seconds=0.05, cpu_share=0.0005))
    with pytest.raises(DecoderDied):
        await decode(sandbox, long_recording)
    await sandbox.close()


async def test_a_slow_listener_is_no_fault_of_the_decoder(long_recording: bytes) -> None:
    """Time in which nobody asks for a block does not count, and the decoder waits without computing."""
    sandbox = Sandbox(Limits(stall_seconds=5))
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            await asyncio.sleep(5.5)
            for _ in range(20):  # more than the pipe holds
                assert (await anext(recording)).pcm
    await sandbox.close()


async def test_a_dead_fork_server_is_started_again(sandbox: Sandbox, long_recording: bytes) -> None:
    """When the fork server is killed its decoders end with it, and the next recording starts another."""
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            (server,) = children_of(os.getpid(), "forkserver")
            os.kill(server, signal.SIGKILL)
            with pytest.raises(DecoderDied):
                async for _ in recording:
                    pass
            await until(lambda: not alive(recording.pid))
    assert (await decode(sandbox, media.encode(media.tone(1), "wav"))).seconds == 1
    assert children_of(os.getpid(), "forkserver") != [server]


async def test_closing_ends_every_decoder(sandbox: Sandbox, long_recording: bytes) -> None:
    """Closing the sandbox ends the server and what is being decoded."""
    with opened(long_recording) as fd:
        async with sandbox.decode(fd) as recording:
            await anext(recording)
            await sandbox.close()
            with pytest.raises(DecoderDied):
                async for _ in recording:
                    pass
            await until(lambda: not alive(recording.pid))
    assert children_of(os.getpid(), "forkserver") == []


PARENT = """
import asyncio, os, sys
from services.transcriber.prepare.sandbox import Sandbox

async def main():
    sandbox = Sandbox()
    async with sandbox.decode(int(sys.argv[1])) as recording:
        await anext(recording)
        print(recording.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_nothing_outlives_a_killed_parent(long_recording: bytes) -> None:
    """When the transcriber is killed, the fork server and its decoders vanish, also one that is stuck in its pipe."""
    with opened(long_recording) as fd:
        argv = [sys.executable, "-c", PARENT, str(fd)]
        parent = await asyncio.create_subprocess_exec(*argv, pass_fds=[fd], stdout=asyncio.subprocess.PIPE)
        try:
            assert parent.stdout is not None
            decoder = int(await asyncio.wait_for(parent.stdout.readline(), 60))
            (server,) = children_of(parent.pid, "forkserver")
            assert alive(decoder)
        finally:
            parent.kill()
            await parent.communicate()
        await until(lambda: not alive(decoder))
        await until(lambda: not alive(server))


def children_of(parent: int, name: str) -> list[int]:
    """Living children of a process whose command line holds `name`."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):
            if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() and alive(int(pid)):
                found.append(int(pid))
    return found
