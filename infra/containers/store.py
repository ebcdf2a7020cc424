"""Makes buckets, identities and notifications in the object store: `python -m infra.containers.store minio|seaweedfs`.

Each service has an identity that reads and writes its own buckets, as with the embedded store. SeaweedFS is started
with all of that and is only waited for. Repeating it changes nothing.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence

import urllib3
from minio import Minio
from minio.error import MinioException

from infra.s3 import minio, weed
from infra.s3.signing import REGION

PATIENCE = 60.0
AGAIN = 0.5


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit codes: 0 done, 1 the store is not there, 2 wrong usage."""
    kinds = {"minio": prepare, "seaweedfs": expect}
    if len(arguments) != 1 or arguments[0] not in kinds:
        print("usage: python -m infra.containers.store minio|seaweedfs", file=sys.stderr)
        return 2
    endpoint = environ["STORE_ENDPOINT"]
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
