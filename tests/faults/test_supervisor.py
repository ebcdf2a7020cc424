"""The supervisor of the stack, on small real processes that listen, die, hang and leave children behind."""

import asyncio
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import nats
import psutil
import pytest

from infra.stack import StackError, ports, probes, specs
from infra.stack.process import Process, Spec, State

STAND_IN = """
import http.server, os, signal, subprocess, sys, time
if "DIE_AT_ONCE" in os.environ:
    sys.exit("a reason to die")
if "CHILD" in os.environ:
    child = subprocess.Popen(["sleep", "600"])
    print("child", child.pid, flush=True)
if "STUBBORN" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print("run with", os.environ.get("DESIFRE_FAILPOINT"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Answers 200 to everything."""


@asynccontextmanager
async def standing(
    folder: Path, env: dict[str, str] | None = None, on_death: Callable[[Process], None] = lambda _: None
) -> AsyncIterator[Process]:
    """A supervised stand-in, not started yet; stopped at the end."""
    program = folder / "stand_in.py"
    program.write_text(STAND_IN)
    reserved = ports.Reservations()
    port = ports.assign(["one"], {}, reserved=reserved)["one"]
    spec = Spec(
        name="one",
        argv=(sys.executable, str(program), str(port)),
        env={"PATH": os.environ["PATH"], **(env or {})},
        ports={"http": port},
        ready=probes.http_ok(port, "/readyz"),
        ready_port=port,
        ready_path="/readyz",
        stop_grace=1.0,
    )
    process = Process(spec, folder / "one.log", on_death=on_death)
    try:
        yield process
    finally:
        await process.stop()
        reserved.release()


async def line(folder: Path, beginning: str) -> str:
    """The first line of the log that begins so, as soon as it is there: the log is written beside everything else."""
    async with asyncio.timeout(60):
        while True:
            found = [one for one in (folder / "one.log").read_text().splitlines() if one.startswith(beginning)]
            if found:
                return found[0]
            await asyncio.sleep(0.02)


async def test_a_killed_process_runs_again_under_another_pid(tmp_path: Path) -> None:
    """A process that is killed is started again, and the count of restarts says so."""
    async with standing(tmp_path) as process:
        process.start()
        await process.wait_ready()
        first = process.pid
        process.kill()
        await process.wait_run(2)
        assert process.pid != first
        assert process.restarts == 1
        assert process.last_exit == -signal.SIGKILL


async def test_a_process_that_nothing_else_helps_is_started_again(tmp_path: Path) -> None:
    """One that runs and says that it will not be well again is ended and started anew."""
    hopeless = {1}
    async with standing(tmp_path) as process:

        async def beyond_help() -> bool:
            return process.runs in hopeless

        process.spec = replace(process.spec, beyond_help=beyond_help)
        process.start()
        await process.wait_run(2)
        assert process.last_exit == -signal.SIGKILL
        assert "nothing but another start helps" in (tmp_path / "one.log").read_text()


async def test_a_bus_that_a_full_disk_has_stopped_is_known(tmp_path: Path) -> None:
    """A real nats-server that wrote its disk full is beyond help once there is room again; before it is not."""
    reserved = ports.Reservations()
    kept, (port, monitor) = tmp_path / "kept", ports.assign(["a", "b"], {}, reserved=reserved).values()
    kept.mkdir()
    # A small disk of its own, which the server alone sees: from outside there is room again.
    small = f"mount -t tmpfs -o size=4m tmpfs {kept} && exec {specs.binary('nats-server')}"
    conf = tmp_path / "nats.conf"
    conf.write_text(f'jetstream {{ store_dir: "{kept}", max_file: 1GB }}')
    command = f"{small} -c {conf} -p {port} -m {monitor}"
    server = await asyncio.create_subprocess_exec("unshare", "-rm", "sh", "-c", command, stderr=-1)
    stuck = probes.bus_stuck(monitor, tmp_path)
    try:
        async with asyncio.timeout(60):
            while await probes.http_status(monitor, "/healthz") != 200:
                if server.returncode is not None:
                    pytest.skip("a full disk cannot be made here: no mounts in a namespace")
                await asyncio.sleep(0.05)
        assert not any([await stuck() for _ in range(probes.LOOKS)])
        nc = await nats.connect(f"nats://127.0.0.1:{port}")
        await nc.jetstream().add_stream(name="fill", subjects=["fill"])
        for _ in range(32):
            await nc.publish("fill", bytes(1 << 18))
        await nc.close()
        async with asyncio.timeout(60):
            while not await stuck():
                await asyncio.sleep(0.05)
    finally:
        if server.returncode is None:
            server.kill()
        await server.communicate()
        reserved.release()


async def test_environment_for_one_run_is_gone_after_a_restart(tmp_path: Path) -> None:
    """A failpoint given to one run is not carried into the restart that follows the death it caused."""
    async with standing(tmp_path) as process:
        process.start({"DESIFRE_FAILPOINT": "put:words:before"})
        await process.wait_ready()
        process.kill()
        assert await process.wait_exit(1) == -signal.SIGKILL
        await process.wait_run(2)
        await process.restart({"DESIFRE_FAILPOINT": "again"})
        await line(tmp_path, "run with again")
    lines = (tmp_path / "one.log").read_text().splitlines()
    assert lines == ["run with put:words:before", "run with None", "run with again"]


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    """Stopping ends with SIGKILL for what does not go."""
    async with standing(tmp_path, {"STUBBORN": "yes"}) as process:
        process.start()
        await process.wait_ready()
        await process.stop()
        assert process.state is State.STOPPED
        assert process.last_exit == -signal.SIGKILL


async def test_children_of_a_dead_process_are_swept(tmp_path: Path) -> None:
    """What a killed process leaves behind in its group is killed before it runs again."""
    async with standing(tmp_path, {"CHILD": "yes"}) as process:
        process.start()
        await process.wait_ready()
        child = int((await line(tmp_path, "child")).split()[1])
        assert psutil.pid_exists(child)
        process.kill()
        await process.wait_run(2)
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_who_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    """Three deaths before readiness are an error that shows what the process said last."""
    deaths: list[str] = []
    async with standing(tmp_path, {"DIE_AT_ONCE": "yes"}, lambda process: deaths.append(process.obituary())) as process:
        process.start()
        with pytest.raises(StackError, match="a reason to die"):
            await process.wait_ready()
    assert deaths == ["exited with code 1"] * 3


async def test_stopping_a_process_that_waits_to_restart_does_not_start_it(tmp_path: Path) -> None:
    """A stop during the pause before a restart is final."""
    async with standing(tmp_path, {"DIE_AT_ONCE": "yes"}) as process:
        process.start()
        await process.wait_exit(1)
        await process.stop()
        assert process.state is State.STOPPED
        assert process.pid is None


LAUNCHER = """
    import asyncio, os, sys
    from pathlib import Path
    from tests.faults.test_supervisor import standing

    async def main():
        async with standing(Path(sys.argv[1])) as process:
            process.start()
            await process.wait_ready()
            print(process.pid, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_processes_die_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the launcher takes its processes along: nothing runs that nobody watches."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(LAUNCHER),
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert launcher.stdout is not None
    child = psutil.Process(int(await launcher.stdout.readline()))
    launcher.kill()
    await launcher.wait()
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its launcher"
        await asyncio.sleep(0.02)
