"""How a MinIO server is started, brought to what the services expect, and told of tenants' own S3 credentials.

It keeps identities itself, so everything here goes through its admin API while it runs. Repeating it changes nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin
from minio.notificationconfig import NotificationConfig, QueueConfig

from infra.s3 import drop, weed
from infra.s3.signing import REGION
from services.contracts import subjects
from services.contracts.objects import DROP_BUCKET

TARGET = "arn:minio:sqs::DROP:nats"
"""The notification target that the variables `MINIO_NOTIFY_NATS_…_DROP` describe."""
TIMEOUT = 10.0

Keys = tuple[str, str]
"""Access key and secret key."""


def arguments(*, data: Path, port: int, host: str) -> list[str]:
    """The command line of `minio`; its console, which `MINIO_BROWSER=off` turns off, gets no port."""
    return ["server", "--quiet", "--address", f"{host}:{port}", str(data)]


def environment(*, admin: Keys, bus: str, user: str, password: str, queue: Path) -> dict[str, str]:
    """What a server needs in its environment: the admin's keys, and the bus (`host:port`) on which it tells of objects.

    What it has to tell while the bus is away waits in the folder `queue`.
    """
    target = {
        "ENABLE": "on",
        "ADDRESS": bus,
        "SUBJECT": subjects.STORE_DROP,
        "JETSTREAM": "on",
        "USERNAME": user,
        "PASSWORD": password,
        "QUEUE_DIR": str(queue),
    }
    return {
        "MINIO_ROOT_USER": admin[0],
        "MINIO_ROOT_PASSWORD": admin[1],
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        **{f"MINIO_NOTIFY_NATS_{name}_DROP": value for name, value in target.items()},
    }


def prepare(endpoint: str, admin: Keys, services: Mapping[str, Keys]) -> None:
    """Make the buckets, an identity for each service, and the notifications of the bucket `drop`."""
    http = urllib3.PoolManager(retries=False, timeout=TIMEOUT)
    client = Minio(endpoint, *admin, secure=False, region=REGION, http_client=http)
    for bucket in weed.BUCKETS:
        if not client.bucket_exists(bucket):
            client.make_bucket(bucket)
    desk = _desk(endpoint, admin)
    for name, buckets in weed.GRANTS.items():
        _identify(desk, name, services[name], _all_of(buckets))
    rule = QueueConfig(queue=TARGET, events=["s3:ObjectCreated:*"])
    client.set_bucket_notification(DROP_BUCKET, NotificationConfig(queue_config_list=[rule]))


def bind(endpoint: str, admin: Keys, tenant: str, secret: str) -> None:
    """Let a tenant's own clients in, with this secret in place of any older one."""
    name = drop.access_key(tenant)
    _identify(_desk(endpoint, admin), name, (name, secret), drop.policy(tenant))


def unbind(endpoint: str, admin: Keys, tenant: str) -> None:
    """Let them in no more."""
    desk, name = _desk(endpoint, admin), drop.access_key(tenant)
    try:
        desk.user_remove(name)
        desk.policy_remove(name)
    except MinioAdminException as error:
        if "XMinioAdminNoSuch" not in str(error):
            raise


def _desk(endpoint: str, admin: Keys) -> MinioAdmin:
    return MinioAdmin(endpoint=endpoint, credentials=StaticProvider(*admin), region=REGION, secure=False)


def _identify(desk: MinioAdmin, policy: str, keys: Keys, rights: dict[str, Any]) -> None:
    desk.policy_add(policy, policy=rights)
    desk.user_add(*keys)
    desk.policy_set(policy, user=keys[0])


def _all_of(buckets: Sequence[str]) -> dict[str, Any]:
    resources = [f"arn:aws:s3:::{bucket}{rest}" for bucket in buckets for rest in ("", "/*")]
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": resources}]}
