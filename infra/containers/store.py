"""Makes buckets, identities and notifications in the object store: `python -m infra.containers.store minio|seaweedfs`.

Each service has an identity that reads and writes its own buckets, as with the embedded store. SeaweedFS is started
with all of that and is only waited for. Repeating it changes nothing.

`bind TENANT` makes S3 credentials of a tenant's own in a MinIO that runs and prints them, `unbind TENANT` takes them
away.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence

import urllib3
from minio import Minio
from minio.error import MinioException

from infra.s3 import drop, minio, weed
from infra.s3.signing import REGION
from infra.stack import secrets
from services.contracts.ids import is_tenant
from services.contracts.objects import DROP_BUCKET

PATIENCE = 60.0
AGAIN = 0.5


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit codes: 0 done, 1 the store is not there, 2 wrong usage."""
    kinds = {"minio": prepare, "seaweedfs": expect}
    endpoint = environ["STORE_ENDPOINT"]
    match arguments:
        case ["bind" | "unbind" as verb, tenant] if is_tenant(tenant):
            return bind(endpoint, environ, tenant) if verb == "bind" else unbind(endpoint, environ, tenant)
        case [kind] if kind in kinds:
            pass
        case _:
            print("usage: python -m infra.containers.store minio|seaweedfs|bind TENANT|unbind TENANT", file=sys.stderr)
            return 2
    until = time.monotonic() + PATIENCE
    while True:
        try:
            kinds[arguments[0]](endpoint, environ)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            if time.monotonic() > until:
                print(f"the store at {endpoint} is not ready: {error}", file=sys.stderr)
                return 1
            time.sleep(AGAIN)
        else:
            return 0


def bind(endpoint: str, environ: Mapping[str, str], tenant: str) -> int:
    """Let a tenant's own S3 clients into its part of the bucket `drop`; their secret is shown this one time."""
    secret = secrets.random()
    minio.bind(endpoint, _keys("admin", environ), tenant, secret)
    login = {"region": REGION, "bucket": DROP_BUCKET, "prefix": f"{tenant}/"}
    print(json.dumps({**login, "access_key": drop.access_key(tenant), "secret_key": secret}, indent=1))
    return 0


def unbind(endpoint: str, environ: Mapping[str, str], tenant: str) -> int:
    """Let them in no more."""
    minio.unbind(endpoint, _keys("admin", environ), tenant)
    print(f"{tenant} unbound")
    return 0


def prepare(endpoint: str, environ: Mapping[str, str]) -> None:
    """Bring a MinIO server to what the services expect."""
    minio.prepare(endpoint, _keys("admin", environ), {name: _keys(name, environ) for name in weed.GRANTS})


def expect(endpoint: str, environ: Mapping[str, str]) -> None:
    """Return when the buckets are there, which SeaweedFS makes a little after it says that it is well."""
    access, secret = _keys("admin", environ)
    http = urllib3.PoolManager(retries=False, timeout=10)
    client = Minio(endpoint, access, secret, secure=False, region=REGION, http_client=http)
    if missing := [bucket for bucket in weed.BUCKETS if not client.bucket_exists(bucket)]:
        raise OSError(f"no bucket {missing[0]} yet")


def _keys(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    return environ[f"{name.upper()}_ACCESS"], environ[f"{name.upper()}_SECRET"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
