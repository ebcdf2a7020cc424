"""Makes secrets at the first start, and hands each container its own: `python -m infra.containers.volumes`.

It runs as root before everything else, with every volume below one folder, and never again needs to. Each container
sees the one volume with its own secrets and nobody else's. `grant TENANT` lets a tenant's services onto the bus;
`pepper` makes a new pepper of the keys beside the old one, and `pepper --forget` takes the old one away.
"""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.nats import config as nats_config
from infra.nats import permissions
from infra.s3 import weed
from infra.stack import secrets, specs
from infra.stack.errors import StackError
from services.contracts.ids import is_tenant
from services.contracts.subjects import DOMAIN, reader

ROOT = Path("/volumes")
USER = 10_001
"""As whom every container runs."""
NATS_PORT, MONITOR_PORT, STORE_PORT = 4222, 8222, 9000
SERVICES = ("keys", "ingest", "transcriber")
DATA = ("nats-data", "store-data", "keys-data", "ingest-data", "transcriber-data")
WEED_PORTS = {"master": 9333, "volume": 8080, "filer": 8888, "admin": 23646, "s3": STORE_PORT, "s3_grpc": 19_000}
EVENTS_URL = "http://ingest:3333/events/store"


def main(arguments: Sequence[str], root: Path = ROOT, user: int = USER) -> int:
    """Exit codes: 0 done, 1 said why not, 2 wrong usage."""
    try:
        return _do(arguments, root, user)
    except StackError as told:
        print(told, file=sys.stderr)
        return 1


def _do(arguments: Sequence[str], root: Path, user: int) -> int:
    path = _folder(root / "secrets", 0) / "stack.json"
    known = secrets.load_or_make(path, specs.secret_names())
    match arguments:
        case []:
            for name in DATA:
                _folder(root / name, user)
        case ["grant", tenant] if is_tenant(tenant):
            known = secrets.make_anew(path, f"nats.{reader(tenant)}")
            name = reader(tenant)
            print(json.dumps({"user": name, "password": known[f"nats.{name}"], "domain": DOMAIN}, indent=1))
        case ["pepper"]:
            secrets.make_pepper(path)
            known = secrets.load(path)
        case ["pepper", "--forget"]:
            # What would end by it is in a database that this container does not read: who calls this has asked there.
            known = secrets.forget(path, secrets.PREVIOUS_PEPPER)
        case _:
            usage = "usage: python -m infra.containers.volumes [grant TENANT | pepper [--forget]]"
            print(usage, file=sys.stderr)
            return 2
    for volume, files in contents(known).items():
        folder = _folder(root / volume, user)
        for name, text in files.items():
            _put(folder / name, text, user)
    return 0


def contents(known: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The files in each volume, by the volume's name; `env` is what the container's entry point reads."""
    stores = {name: (known[f"s3.{name}.access"], known[f"s3.{name}.secret"]) for name in (*weed.GRANTS, "admin")}
    found: dict[str, dict[str, str]] = {name: {"env": _environment(_service(name, known, stores))} for name in SERVICES}
    found["nats"] = _nats(known)
    found["store-setup"] = {
        "env": _environment({f"{name.upper()}_{half}": keys[n] for name, keys in stores.items() for n, half in _HALVES})
    }
    minio = {
        "MINIO_ROOT_USER": stores["admin"][0],
        "MINIO_ROOT_PASSWORD": stores["admin"][1],
        "MINIO_NOTIFY_NATS_PASSWORD_DROP": known[f"nats.{permissions.STORE}"],
    }
    found["store"] = {"env": _environment(minio), **_weed(known, stores)}
    return found


_HALVES = ((0, "ACCESS"), (1, "SECRET"))


def _service(name: str, known: Mapping[str, str], stores: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    environment = {"DESIFRE_NATS_USER": name, "DESIFRE_NATS_PASSWORD": known[f"nats.{name}"]}
    if name in stores:
        environment |= dict(zip(("DESIFRE_STORE_ACCESS_KEY", "DESIFRE_STORE_SECRET_KEY"), stores[name], strict=True))
    if name == "ingest":
        environment["DESIFRE_DROP_SECRET"] = known["ingest.drop"]
        environment["DESIFRE_STORE_EVENTS_TOKEN"] = known["s3.events"]
    if name == "keys":
        environment["DESIFRE_KEYS_PEPPER"] = known[secrets.PEPPER]
        if secrets.PREVIOUS_PEPPER in known:
            environment["DESIFRE_KEYS_PEPPER_PREVIOUS"] = known[secrets.PREVIOUS_PEPPER]
    return environment


def _nats(known: Mapping[str, str]) -> dict[str, str]:
    granted = [name.removeprefix(specs.GRANTED) for name in known if name.startswith(specs.GRANTED)]
    guests = [permissions.guest(tenant) for tenant in granted]
    users = [*permissions.table(), *(guest.user for guest in guests)]
    return {
        "users.conf": nats_config.passwords({user: known[f"nats.{user}"] for user in users}),
        "nats.conf": nats_config.render(
            port=NATS_PORT,
            monitor_port=MONITOR_PORT,
            store_dir=Path("/data"),
            users=permissions.table(),
            guests=guests,
            passwords="users.conf",
            host="0.0.0.0",  # noqa: S104 - of a container that publishes no port
        ),
    }


def _weed(known: Mapping[str, str], stores: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """What the overlay docker-compose.seaweedfs.yml starts in place of MinIO."""
    users = Path("/run/desifre/s3-users.json")
    jwt = {name: known[f"s3.jwt.{name}"] for name in weed.JWT_VARIABLES}
    environment = weed.environment(admin=stores["admin"], jwt=jwt) | weed.events(EVENTS_URL, known["s3.events"])
    arguments = weed.arguments(data=Path("/data"), users_file=users, ports=WEED_PORTS, sockets=None, bind="0.0.0.0")  # noqa: S104 - as above
    command = shlex.join(["exec", "weed", *arguments])
    return {
        "weed.sh": "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()) + command,
        users.name: weed.users({name: stores[name] for name in weed.GRANTS}),
    }


def _environment(variables: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def _folder(path: Path, user: int) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    os.chown(path, user, user)
    return path


def _put(path: Path, text: str, user: int) -> None:
    """Whole or not at all for whoever reads it meanwhile."""
    draft = path.with_name(f".{path.name}.draft")
    draft.touch(mode=0o600)
    draft.write_text(text)
    os.chown(draft, user, user)
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
