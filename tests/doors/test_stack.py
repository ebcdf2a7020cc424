"""The launcher and the operator's commands, as a person uses them: real processes, real ports, real exit codes."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from infra.stack import Stack, StackError, ports

PROCESSES = ["nats", "s3", "keys", "ingest", "transcriber"]


PATIENCE = 60.0
"""Seconds for which a test waits for what must come."""


class Desk:
    """An operator at a terminal: runs `desifre` with a home and a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.reserved = ports.Reservations()
        self.port = ports.assign(["http"], {}, reserved=self.reserved)["http"]
        own = {"DESIFRE_HOME": str(home), "DESIFRE_HTTP_PORT": str(self.port), "DESIFRE_ENGINE": "digest"}
        self.environ = {**os.environ, **own}

    async def start(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "services.cli",
            *arguments,
            env=self.environ | environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def status(self) -> dict[str, Any]:
        """What `status` says once everything is ready: who answers late is not, so it is asked again."""
        async with asyncio.timeout(PATIENCE):
            while True:
                code, report = await self.run("status", "--json")
                if code == 0:
                    found: dict[str, Any] = json.loads(report)
                    return found
                assert code == 3, report

    async def run(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Exit code and everything printed."""
        process = await self.start(*arguments, **environ)
        printed, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, printed.decode()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk whose stack, if one was left running, is stopped."""
    desk = Desk(tmp_path / "home")
    yield desk
    await desk.run("down")
    desk.reserved.release()


async def read_until(stream: asyncio.StreamReader, text: str) -> str:
    """What was printed up to the line with this text. A stream that ends before is a failure that shows it."""
    printed = ""
    while text not in printed:
        line = await stream.readline()
        assert line, f"it ended before it said {text!r}:\n{printed}"
        printed += line.decode()
    return printed


async def test_up_says_where_it_listens_and_ctrl_c_leaves_nothing_behind(desk: Desk) -> None:
    """The printed command gets a key; Ctrl-C stops every process, and the exit code says that all went well."""
    launcher = await desk.start("up")
    assert launcher.stdout is not None
    printed = await read_until(launcher.stdout, "Stop it with")
    url = f"http://127.0.0.1:{desk.port}"
    assert f"listens on {url}" in printed
    pasted = re.search(r"curl -s -X POST '([^']+)'", printed)
    assert pasted is not None
    async with aiohttp.ClientSession() as session, session.post(pasted[1]) as answer:
        assert answer.status == 200
        assert (await answer.json())["api_key"]
    children = psutil.Process(launcher.pid).children(recursive=True)
    assert len(children) >= len(PROCESSES)
    launcher.send_signal(signal.SIGINT)
    assert await launcher.wait() == 0
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, PATIENCE)
    assert not alive


async def test_a_second_copy_is_told_who_runs_there(desk: Desk) -> None:
    """Detached, it goes on in the background; another `up` on that home names its process; `down` ends it."""
    code, printed = await desk.run("up", "--detach")
    assert code == 0, printed
    status = await desk.status()
    assert [process["name"] for process in status["processes"]] == PROCESSES
    assert all(process["ready"] and process["state"] == "ready" for process in status["processes"])
    assert all(process["pid"] and process["ports"] and process["restarts"] == 0 for process in status["processes"])
    for again in (("up",), ("up", "--detach")):
        code, printed = await desk.run(*again)
        assert code == 1
        assert str(status["launcher"]) in printed
    code, printed = await desk.run("logs", "keys")
    assert code == 0
    assert '"service": "keys"' in printed
    running = [
        psutil.Process(pid) for pid in (status["launcher"], *(process["pid"] for process in status["processes"]))
    ]
    code, printed = await desk.run("down")
    assert code == 0, printed
    _, alive = await asyncio.to_thread(psutil.wait_procs, running, PATIENCE)
    assert not alive
    assert (await desk.run("status"))[0] == 4


async def test_a_taken_port_is_told(desk: Desk) -> None:
    """The message names the port and the setting that chooses another; nothing was started."""
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = taker.getsockname()[1]
        code, printed = await desk.run("up", DESIFRE_HTTP_PORT=str(port))
    assert code == 1
    assert f"Port {port}" in printed
    assert "DESIFRE_HTTP_PORT" in printed
    assert "Traceback" not in printed


async def test_a_full_disk_is_told(desk: Desk) -> None:
    """The message says how much is missing; nothing was started."""
    code, printed = await desk.run("up", DESIFRE_MIN_FREE_BYTES=str(1 << 60))
    assert code == 1
    assert "full" in printed
    assert "Traceback" not in printed


async def test_a_setting_that_makes_no_sense_is_told(desk: Desk) -> None:
    """A port that is no number is refused by name."""
    code, printed = await desk.run("up", DESIFRE_HTTP_PORT="http")
    assert code == 1
    assert "DESIFRE_HTTP_PORT" in printed


async def test_a_service_that_cannot_start_ends_the_start_with_its_own_words(desk: Desk) -> None:
    """A setting that keys refuses is shown as keys tells it, and nothing goes on running."""
    code, printed = await desk.run("up", DESIFRE_SIGNUP="nobody-knows", DESIFRE_PORT="3333")
    assert code == 1
    assert "keys does not start with these settings" in printed
    assert "DESIFRE_SIGNUP: Input should be" in printed
    assert "Traceback" not in printed
    assert "DESIFRE_PORT is no setting; is DESIFRE_HTTP_PORT meant?" in printed
    assert (await desk.run("status"))[0] == 4


async def test_the_home_is_found_again(tmp_path: Path) -> None:
    """A key made before a stop works after the next start, in a stack with other ports where need be."""
    stack = Stack(tmp_path, services=PROCESSES[:-1])
    async with stack, aiohttp.ClientSession() as session:
        async with session.post(f"{stack.http_url}/generate-key", params={"username": "me"}) as answer:
            key = (await answer.json())["api_key"]
        with pytest.raises(StackError, match="already"):
            await Stack(tmp_path).start()
    async with (
        stack,
        aiohttp.ClientSession() as session,
        session.get(f"{stack.http_url}/keys", headers={"x-api-key": key}) as answer,
    ):
        assert answer.status == 200
    assert not (tmp_path / "run" / "state.json").exists()


async def test_all_is_ready_when_nothing_waits_to_be_started_again(tmp_path: Path) -> None:
    """A process that died young is waited for while it is not there; the port that was chosen for HTTP is nobody's."""
    async with Stack(tmp_path, services=["nats"]) as first:
        taken = first.wiring.ports["nats"]
    async with Stack(tmp_path, services=["nats"], http_port=taken) as stack:
        assert taken not in stack.wiring.ports.values()
        bus = stack.process("nats")
        run = bus.runs
        bus.kill()
        await bus.wait_exit(run)
        await stack.wait_all_ready()
        assert bus.pid is not None
        assert bus.runs == run + 1


@pytest.mark.parametrize("name", PROCESSES)
async def test_every_process_comes_back_after_a_kill(stack: Stack, name: str) -> None:
    """`kill -9` of any one process is followed by a new one that becomes ready, and the others stay."""
    before = {process.name: process.pid for process in stack.processes.values()}
    process = stack.process(name)
    run = process.runs
    process.kill()
    await process.wait_run(run + 1)
    await stack.wait_all_ready()
    after = {process.name: process.pid for process in stack.processes.values()}
    assert [other for other in before if before[other] != after[other]] == [name]


async def test_an_engine_can_be_added_and_taken_away(stack: Stack) -> None:
    """A second transcriber runs beside the first, with ports of its own."""
    second = await stack.add("transcriber")
    assert second.name == "transcriber-2"
    assert second.spec.ready_port != stack.process("transcriber").spec.ready_port
    await second.stop()
    assert second.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child's life to its parent's")
async def test_a_launcher_that_is_killed_takes_everything_along_and_can_be_started_again(desk: Desk) -> None:
    """`kill -9` of the launcher leaves no process, and the next `up` on the same home and port just works."""
    for _ in range(2):
        code, printed = await desk.run("up", "--detach")
        assert code == 0, printed
        status = await desk.status()
        running = psutil.Process(status["launcher"]).children(recursive=True)
        assert len(running) >= len(PROCESSES)
        os.kill(status["launcher"], signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, running, PATIENCE)
        assert not alive
        assert (await desk.run("status"))[0] == 4
