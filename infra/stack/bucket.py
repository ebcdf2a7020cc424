"""The operator's commands about the bucket `drop`: whose S3 clients may use it, and which of a tenant's keys pays.

What a tenant's clients may is between us and the store; who pays is known to keys, which is asked by its own commands.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence

from infra.s3 import drop
from infra.s3.signing import REGION
from infra.stack import clients, secrets, specs
from infra.stack.errors import StackError
from infra.stack.home import Home, HomeLock, read_json
from services.contracts.ids import is_tenant
from services.contracts.objects import DROP_BUCKET

NOBODY = "-"


def bind(home: Home, environ: Mapping[str, str], tenant: str, key: str | None = None) -> int:
    """Let a tenant's own S3 clients into its part of the bucket, and print their secret this one time.

    At once where the store runs; otherwise from its next start. A tenant that was bound before gets a new secret, and
    the old one is worth nothing then. `key` is the id of the tenant's key that pays. Raises StackError.
    """
    check_tenant(tenant)
    pays = _name(home, environ, tenant, key)
    known = secrets.make_anew(home.secrets_file, f"{specs.BOUND}{tenant}")
    wiring = _wiring(home, environ, known)
    clients.apply(wiring, _store_of(home), tenant)
    login = {
        "endpoint": f"http://{wiring.store_endpoint}",
        "region": REGION,
        "bucket": DROP_BUCKET,
        "prefix": f"{tenant}/",
        "access_key": drop.access_key(tenant),
        "secret_key": wiring.bound[tenant],
        "key": pays,
    }
    print(json.dumps(login, indent=1))
    return 0


def name_key(home: Home, environ: Mapping[str, str], tenant: str, key: str) -> int:
    """Have another key of the tenant pay, and leave its S3 clients as they are. Raises StackError."""
    check_tenant(tenant)
    print(f"{tenant}\t{_name(home, environ, tenant, key)}")
    return 0


def unbind(home: Home, environ: Mapping[str, str], tenant: str) -> int:
    """Let a tenant's own S3 clients in no more, and have no key of it pay. Raises StackError."""
    check_tenant(tenant)
    name = f"{specs.BOUND}{tenant}"
    old = secrets.load(home.secrets_file).get(name)
    if old is None and tenant not in _named(home, environ):
        raise StackError(f"{tenant} is not bound; `desifre drop list` shows who is.")
    if old is not None:
        known = secrets.forget(home.secrets_file, name)
        clients.apply(_wiring(home, environ, known), _store_of(home), tenant, old)
    _keys(home, environ, tenant, "--none")
    print(f"{tenant} unbound")
    return 0


def show(home: Home, environ: Mapping[str, str]) -> int:
    """Print the bound tenants, one a line: tenant, access key, the key that pays, whether that works or has ended.

    `-` stands for what there is not: a tenant that was bound before a key was named pays without one.
    """
    bound = _wiring(home, environ, secrets.load(home.secrets_file)).bound
    named = _named(home, environ)
    if bound or named:
        print("TENANT\tACCESS_KEY\tKEY\tSTATE")
    for tenant in sorted({*bound, *named}):
        access = drop.access_key(tenant) if tenant in bound else NOBODY
        print("\t".join((tenant, access, *named.get(tenant, (NOBODY, NOBODY)))))
    return 0


def check_tenant(tenant: str) -> None:
    """Raises StackError."""
    if not is_tenant(tenant):
        raise StackError("A tenant is 16 small letters and digits; `desifre keys list` shows them.")


def _name(home: Home, environ: Mapping[str, str], tenant: str, key: str | None) -> str:
    [row] = _keys(home, environ, tenant, *(("--key", key) if key else ()))
    return row[1]


def _named(home: Home, environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By tenant, the key that pays and its state."""
    return {tenant: (key, state) for tenant, key, state in _keys(home, environ)}


def _keys(home: Home, environ: Mapping[str, str], *arguments: str) -> Sequence[Sequence[str]]:
    """What `desifre keys drop-key …` answers, line by line in columns. Raises StackError with what it complains of."""
    wiring = _wiring(home, environ, secrets.load(home.secrets_file))
    command = [*specs.PYTHON, "-m", "services.keys.admin", "drop-key", *arguments]
    done = subprocess.run(
        command, env=wiring.service_environment("keys", "keys"), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StackError(done.stderr.strip() or f"`keys drop-key` ended with {done.returncode}.")
    return [line.split("\t") for line in done.stdout.splitlines()]


def _wiring(home: Home, environ: Mapping[str, str], known: Mapping[str, str]) -> specs.Wiring:
    return specs.Wiring(home, known, home.ports(), specs.DEFAULT_HTTP_PORT, environ)


def _store_of(home: Home) -> int | None:
    """The process of the store, where the stack runs."""
    state = read_json(home.state_file) if HomeLock(home).holder() is not None else {}
    return next((one["pid"] for one in state.get("processes", []) if one["name"] == specs.STORE), None)
