"""A whole service on one machine: starts its processes in order, keeps them up, stops them in order."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.nats import permissions
from infra.nats.adopt import adopt
from infra.stack import ports, secrets, specs
from infra.stack.errors import StackError
from infra.stack.home import DEFAULT_MIN_FREE_BYTES, Home, HomeLock, write_json
from infra.stack.process import PROBE_INTERVAL, Process
from infra.stack.restarts import LONGEST_DELAY

START_TIMEOUT = 60.0
DEFAULT_HTTP_HOST = "127.0.0.1"


class Stack:
    """The embedded stack: nats-server, the object store and the services, each a process of its own.

    `services` are those to run, of `specs.EVERYTHING`; `settings` are environment variables per service (`all` for
    every service); `http_port` is where ingest listens (None: any free port); `environ` is what the processes
    inherit; who dies young is started again after at most `longest_restart_delay` seconds. As an async context
    manager it is the fixture of the end-to-end tests.
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        services: Sequence[str] = specs.EVERYTHING,
        http_port: int | None = None,
        environ: Mapping[str, str] | None = None,
        min_free_bytes: int = DEFAULT_MIN_FREE_BYTES,
        on_event: Callable[[str], None] = lambda _: None,
        on_line: Callable[[str, bytes], None] = lambda _, __: None,
        longest_restart_delay: float = LONGEST_DELAY,
    ) -> None:
        self.home = Home(home.resolve())
        self._settings = settings or {}
        self._services = tuple(name for name in specs.EVERYTHING if name in services)
        self._http_port = http_port
        self._environ = dict(os.environ if environ is None else environ)
        self._min_free_bytes = min_free_bytes
        self._on_event = on_event
        self._on_line = on_line
        self._longest_restart_delay = longest_restart_delay
        self._lock = HomeLock(self.home)
        self._reserved = ports.Reservations()
        self._processes: dict[str, Process] = {}
        self._kinds: dict[str, str] = {}
        self._wiring: specs.Wiring | None = None
        self._started_at = 0.0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def wiring(self) -> specs.Wiring:
        """Addresses and secrets; there once the stack was started."""
        if self._wiring is None:
            raise StackError("The stack was not started.")
        return self._wiring

    @property
    def http_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.wiring.http_port}"

    @property
    def nats_url(self) -> str:
        return self.wiring.nats_url

    @property
    def store_endpoint(self) -> str:
        """host:port of the S3 door."""
        return self.wiring.store_endpoint

    def nats_password(self, user: str = permissions.ADMIN) -> str:
        return self.wiring.secrets[f"nats.{user}"]

    def store_keys(self, identity: str = permissions.ADMIN) -> tuple[str, str]:
        """Access key and secret key."""
        return self.wiring.store_keys(identity)

    @property
    def processes(self) -> Mapping[str, Process]:
        return self._processes

    def process(self, name: str) -> Process:
        return self._processes[name]

    async def start(self) -> None:
        """Start everything and return when all of it is ready. Raises StackError; nothing runs then."""
        self._started_at = time.time()
        self.home.prepare()
        self._lock.take()
        try:
            self.home.check_disk(self._min_free_bytes)
            self._wiring = self._wire()
            self._wiring.write_configuration()
            adopt(self.home.nats)
            for name in self._services:
                self._register(name, name).start()
            await asyncio.gather(*(self._announce_ready(self._processes[name]) for name in self._services))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop in reverse order, in less than ten seconds: services, then keys, then store and bus."""
        servers = {specs.NATS, specs.STORE}
        waves = (lambda kind: kind not in {"keys", *servers}, lambda kind: kind == "keys", lambda kind: kind in servers)
        for in_wave in waves:
            wave = [process for name, process in self._processes.items() if in_wave(self._kinds[name])]
            await asyncio.gather(*(process.stop() for process in wave))
        self.home.state_file.unlink(missing_ok=True)
        self._reserved.release()
        self._lock.release()

    async def wait_all_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Return when every process answers that it is ready, now: after one was killed the others may need a moment.

        Raises StackError after `timeout` seconds.
        """
        # One that waits to be started again counts, though nothing of it runs at this moment.
        wanted = [process for process in self._processes.values() if process.wanted]
        try:
            async with asyncio.timeout(timeout):
                while not all(await asyncio.gather(*(one.spec.ready() for one in wanted))):  # noqa: ASYNC110
                    await asyncio.sleep(PROBE_INTERVAL)
        except TimeoutError:
            raise StackError(f"Not everything was ready again within {timeout:g} s.") from None

    async def add(self, kind: str, once: Mapping[str, str] | None = None) -> Process:
        """Start one more of this kind beside those that run, ready when this returns.

        `once` is environment for its first run alone.
        """
        name = kind if kind not in self._processes else f"{kind}-{sum(k == kind for k in self._kinds.values()) + 1}"
        port_names = [name] if name != kind else specs.PORTS[kind]
        known = dict(self.wiring.ports)
        new = ports.assign(
            [port for port in port_names if port not in known], {}, avoid=known.values(), reserved=self._reserved
        )
        known.update(new)
        self._wiring = specs.Wiring(
            self.home, self.wiring.secrets, known, self.wiring.http_port, self._environ, self._settings
        )
        process = self._register(kind, name)
        process.start(once)
        await process.wait_ready()
        return process

    def _wire(self) -> specs.Wiring:
        # The ports of nats and store are needed by every service's environment.
        names = [port for kind in specs.EVERYTHING for port in specs.PORTS[kind]]
        if self._http_port is None:
            names.append("http")
        assigned = ports.assign(
            names,
            self.home.known_ports(),
            pairs=specs.PAIRED_PORTS,
            avoid=() if self._http_port is None else (self._http_port,),
            reserved=self._reserved,
        )
        write_json(self.home.ports_file, assigned)
        http_port = self._http_port or assigned["http"]
        if "ingest" in self._services:
            host = self._environ.get("DESIFRE_HTTP_HOST", DEFAULT_HTTP_HOST)
            if not ports.is_free(http_port, host):
                raise StackError(
                    f"Port {http_port} on {host} is taken by another program. Stop that one, or choose another port: "
                    f"DESIFRE_HTTP_PORT={http_port + 1}."
                )
        known_secrets = secrets.load_or_make(self.home.secrets_file, specs.secret_names())
        return specs.Wiring(self.home, known_secrets, assigned, http_port, self._environ, self._settings)

    def _register(self, kind: str, name: str) -> Process:
        process = Process(
            self.wiring.spec(kind, name),
            self.home.logs / f"{name}.log",
            on_change=self._write_state,
            on_death=lambda process: self._on_event(f"{process.name} {process.obituary()}; starting it again"),
            on_line=self._on_line,
            longest_delay=self._longest_restart_delay,
        )
        self._processes[name] = process
        self._kinds[name] = kind
        return process

    async def _announce_ready(self, process: Process) -> None:
        await process.wait_ready(START_TIMEOUT)
        self._on_event(f"{process.name} is ready ({time.time() - self._started_at:.1f} s)")

    def _write_state(self) -> None:
        """For `status`, which reads this and then asks each process itself."""
        state = {
            "launcher": os.getpid(),
            "http_url": self.http_url,
            "processes": [process.describe() for process in self._processes.values()],
        }
        # A full disk must not end the supervision: that is when it is needed.
        with contextlib.suppress(OSError):
            write_json(self.home.state_file, state)
