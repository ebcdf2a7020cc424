"""What the operator's commands do. Each prints for people and returns the exit code of the program."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from infra.nats import permissions
from infra.nats.reload import reload
from infra.stack import logs as log_files
from infra.stack import mistyped, probes, secrets, specs
from infra.stack.bucket import check_tenant
from infra.stack.errors import StackError
from infra.stack.home import DEFAULT_MIN_FREE_BYTES, Home, HomeLock, read_json
from infra.stack.process import State
from infra.stack.stack import Stack
from services.contracts.subjects import DOMAIN

DETACHED_START_TIMEOUT = 90.0
DOWN_TIMEOUT = 30.0
POLL = 0.05
LAUNCHER = "launcher"
"""Name of the log of a launcher in the background."""


async def up(home: Home, environ: Mapping[str, str], *, show_logs: bool) -> int:
    """Start everything, say where it is, and stay until Ctrl-C, SIGTERM or SIGHUP."""
    started = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stack = Stack(
        home.root,
        http_port=_number(environ, "DESIFRE_HTTP_PORT", specs.DEFAULT_HTTP_PORT),
        min_free_bytes=_number(environ, "DESIFRE_MIN_FREE_BYTES", DEFAULT_MIN_FREE_BYTES),
        environ=environ,
        on_event=lambda event: print(f"  {event}", flush=True),
        on_line=_print_line if show_logs else lambda _, __: None,
    )
    for warning in mistyped.warnings(environ):
        print(f"Note: {warning}", file=sys.stderr, flush=True)
    print(f"Starting desifre in {home.root}", flush=True)
    starting = asyncio.create_task(stack.start(), name="start the stack")
    stopping = asyncio.create_task(stop.wait(), name="wait for a signal")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        print("Stopped while starting.")
        return 130
    try:
        starting.result()
        print(welcome(stack.http_url, home, time.monotonic() - started), flush=True)
        await stopping
    finally:
        stopping.cancel()
    print("Stopping", flush=True)
    stopped_at = time.monotonic()
    await stack.stop()
    print(f"Stopped in {time.monotonic() - stopped_at:.1f} s", flush=True)
    return 0


def welcome(url: str, home: Home, seconds: float) -> str:
    """What a person needs to know once everything runs."""
    return f"""
desifre is ready after {seconds:.1f} s and listens on {url}
  everything it keeps is in {home.root}

Get a key, and have a recording transcribed:
  KEY=$(curl -s -X POST '{url}/generate-key?username=me' | python3 -c 'import json, sys; print(json.load(sys.stdin)["api_key"])')
  curl -H "x-api-key: $KEY" -F file=@recording.wav {url}/transcribe

Stop it with Ctrl-C or `desifre down`; `desifre status` and `desifre logs` show how it is.
"""  # noqa: E501 - a line to paste


def up_detached(home: Home) -> int:
    """Start a launcher in the background and return when everything is ready. Raises StackError."""
    home.prepare()
    if (running := HomeLock(home).holder()) is not None:
        raise StackError(f"A stack runs on {home.root} already (process {running}). `desifre down` stops it.")
    log = home.logs / f"{LAUNCHER}.log"
    with log.open("wb") as output:
        launcher = subprocess.Popen(
            [*specs.PYTHON, "-m", "infra.stack", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    started = time.monotonic()
    while time.monotonic() - started < DETACHED_START_TIMEOUT:
        state = read_json(home.state_file)
        if launcher.poll() is not None:
            print(log.read_text(), end="", file=sys.stderr)
            return launcher.returncode or 1
        processes = state.get("processes", [])
        if (
            state.get(LAUNCHER) == launcher.pid
            and len(processes) == len(specs.EVERYTHING)
            and all(process["state"] == State.READY for process in processes)
        ):
            print(welcome(state["http_url"], home, time.monotonic() - started))
            for warning in mistyped.warnings(os.environ):
                print(f"Note: {warning}", file=sys.stderr)
            return 0
        time.sleep(POLL)
    launcher.terminate()
    raise StackError(f"It was not ready within {DETACHED_START_TIMEOUT:g} s; see {log}.")


def down(home: Home) -> int:
    """Stop the launcher of this home, and so everything. Raises StackError when it does not go."""
    lock = HomeLock(home)
    launcher = lock.holder()
    if launcher is None:
        print(f"Nothing runs on {home.root}.")
        return 0
    started = time.monotonic()
    os.kill(launcher, signal.SIGTERM)
    while lock.holder() == launcher:
        if time.monotonic() - started > DOWN_TIMEOUT:
            # Its processes die with it, by order of the kernel.
            os.kill(launcher, signal.SIGKILL)
            raise StackError(
                f"The launcher (process {launcher}) did not stop within {DOWN_TIMEOUT:g} s and was killed."
            )
        time.sleep(POLL)
    print(f"Stopped in {time.monotonic() - started:.1f} s.")
    return 0


async def status(home: Home, *, as_json: bool) -> int:
    """Show each process as it is now: the launcher's word, and its own answer to a readiness request.

    Exit code 0 when everything is ready, 3 when something is not, 4 when nothing runs.
    """
    launcher = HomeLock(home).holder()
    state = read_json(home.state_file) if launcher is not None else {}
    processes: list[dict[str, Any]] = state.get("processes", [])
    codes = await asyncio.gather(
        *(probes.http_status(process["ready_port"], process["ready_path"]) for process in processes)
    )
    now = time.time()
    for process, code in zip(processes, codes, strict=True):
        process["ready"] = code == 200
        process["uptime"] = round(now - process["started_at"], 1) if process["started_at"] else None
    ready = bool(processes) and all(process["ready"] for process in processes)
    report = {
        "home": str(home.root),
        "running": launcher is not None,
        "ready": ready,
        "launcher": launcher,
        "free_bytes": shutil.disk_usage(home.root).free if home.root.exists() else None,
        "http_url": state.get("http_url"),
        "processes": processes,
    }
    print(json.dumps(report, indent=1) if as_json else _table(report))
    return 0 if ready else 3 if launcher is not None else 4


def logs(home: Home, service: str | None, *, lines: int, follow: bool) -> int:
    """Print the end of one log, or of all of them with the names in front. Raises StackError."""
    known = {path.stem: path for path in sorted(home.logs.glob("*.log"))}
    if service is not None and service not in known:
        raise StackError(f"There is no log of {service}. There are: {', '.join(known) or 'none'}.")
    chosen = {service: known[service]} if service is not None else known
    for name, path in chosen.items():
        for line in log_files.tail(path, lines):
            print(line if service else f"{name:<12} | {line}")
    if follow:
        for name, line in log_files.follow(chosen):
            print(line if service else f"{name:<12} | {line}", flush=True)
    return 0


def inside(
    home: Home, environ: Mapping[str, str], target: str, arguments: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment to run a module of a service as that service.

    `target` is SERVICE (services.SERVICE) or SERVICE-MODULE (services.SERVICE.MODULE).
    """
    kind, _, module = target.partition("-")
    if kind not in specs.SERVICES:
        raise StackError(f"There is no service {kind}. There are: {', '.join(specs.SERVICES)}.")
    name = f"services.{kind}.{module}" if module else f"services.{kind}"
    passed = arguments[1:] if arguments and arguments[0] == "--" else arguments
    if module and ("--help" in passed or not passed):
        # Help is given before there is a home.
        return [*specs.PYTHON, "-m", name, *(passed or ["--help"])], dict(environ)
    wiring = specs.Wiring(
        home,
        secrets.load(home.secrets_file),
        home.ports(),
        http_port=_number(environ, "DESIFRE_HTTP_PORT", specs.DEFAULT_HTTP_PORT),
        environ=environ,
    )
    return [*specs.PYTHON, "-m", name, *passed], wiring.service_environment(kind, kind)


def nats_grant(home: Home, environ: Mapping[str, str], tenant: str) -> int:
    """Let a tenant's own services onto the bus, at once where it runs, and print their password this one time.

    A tenant that was let on before gets a new password; the old one is worth nothing then. Raises StackError.
    """
    check_tenant(tenant)
    user = permissions.guest(tenant).user
    ports = home.ports()
    known = secrets.make_anew(home.secrets_file, f"nats.{user}")
    wiring = specs.Wiring(home, known, ports, specs.DEFAULT_HTTP_PORT, environ)
    wiring.write_bus_configuration()
    state = read_json(home.state_file) if HomeLock(home).holder() is not None else {}
    for process in state.get("processes", []):
        running = process["name"] == specs.NATS and process["pid"]
        if running and not reload(process["pid"], process["ready_port"]):
            raise StackError("nats-server did not read its users again; see `desifre logs nats`.")
        if running:
            _make_readers(home, environ, tenant)
    login = {"url": wiring.nats_url, "user": user, "password": known[f"nats.{user}"], "domain": DOMAIN}
    print(json.dumps(login, indent=1))
    return 0


def _make_readers(home: Home, environ: Mapping[str, str], tenant: str) -> None:
    """Have ingest's own command make the consumers that the tenant reads from, so that it may begin with reading."""
    command, environment = inside(home, environ, "ingest-admin", ["readers", tenant])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"The tenant's consumers could not be made: {done.stderr.strip()}")


def _table(report: Mapping[str, Any]) -> str:
    if not report["running"]:
        return f"Nothing runs on {report['home']}."
    rows = [("PROCESS", "STATE", "READY", "PID", "PORT", "UP", "RESTARTS")]
    for process in report["processes"]:
        uptime = process["uptime"]
        rows.append(
            (
                process["name"],
                process["state"],
                "yes" if process["ready"] else "no",
                str(process["pid"] or "-"),
                ",".join(str(port) for port in process["ports"].values()),
                "-" if uptime is None else f"{uptime:.0f} s",
                str(process["restarts"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    free = report["free_bytes"]
    if free is not None and free < DEFAULT_MIN_FREE_BYTES:
        lines.append(f"The disk of {report['home']} fills up: {free >> 20} MiB are free. See docs/runbook.md.")
    return "\n".join([f"{report['http_url']}  home {report['home']}  launcher {report['launcher']}", *lines])


def _print_line(name: str, line: bytes) -> None:
    print(f"{name:<12} | {line.decode(errors='replace')}", flush=True)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not text.isdecimal():
        raise StackError(f"{name} must be a whole number, not {text!r}.")
    return int(text)
