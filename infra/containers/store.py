"""Makes buckets, identities and notifications in the object store: `python -m infra.containers.store minio|seaweedfs`.

Each service has an identity that reads and writes its own buckets, as with the embedded store. SeaweedFS is started
with all of that and is only waited for. Repeating it changes nothing.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import urllib3
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioException
from minio.minioadmin import MinioAdmin
from minio.notificationconfig import NotificationConfig, QueueConfig

from infra.s3 import weed
from services.contracts.objects import DROP_BUCKET

REGION = "us-east-1"
TARGET = "arn:minio:sqs::DROP:nats"
"""The notification target that the `…_DROP` variables of docker-compose.yml describe."""
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
    access, secret = _keys("admin", environ)
    http = urllib3.PoolManager(retries=False, timeout=10)
    client = Minio(endpoint, access, secret, secure=False, region=REGION, http_client=http)
    for bucket in weed.BUCKETS:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    admin = MinioAdmin(endpoint=endpoint, credentials=StaticProvider(access, secret), region=REGION, secure=False)
    for name, buckets in weed.GRANTS.items():
        admin.policy_add(name, policy=_policy(buckets))
        own_access, own_secret = _keys(name, environ)
        admin.user_add(own_access, own_secret)
        admin.policy_set(name, user=own_access)
    rule = QueueConfig(queue=TARGET, events=["s3:ObjectCreated:*"])
    client.set_bucket_notification(DROP_BUCKET, NotificationConfig(queue_config_list=[rule]))


def expect(endpoint: str, environ: Mapping[str, str]) -> None:
    """Return when the buckets are there, which SeaweedFS makes a little after it says that it is well."""
    access, secret = _keys("admin", environ)
    http = urllib3.PoolManager(retries=False, timeout=10)
    client = Minio(endpoint, access, secret, secure=False, region=REGION, http_client=http)
    if missing := [bucket for bucket in weed.BUCKETS if not client.bucket_exists(bucket)]:
        raise OSError(f"no bucket {missing[0]} yet")


def _keys(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    return environ[f"{name.upper()}_ACCESS"], environ[f"{name.upper()}_SECRET"]


def _policy(buckets: Sequence[str]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:*"],
                "Resource": [f"arn:aws:s3:::{bucket}{rest}" for bucket in buckets for rest in ("", "/*")],
            }
        ],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
