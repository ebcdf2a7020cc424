"""How SeaweedFS is started as the embedded S3 server.

Flags, traps and figures were measured with SeaweedFS 4.48; each flag that is not a path or a port turns
something off that listens, reports home, or takes memory without bound.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.s3 import drop

HTTP_PORTS = ("master", "volume", "filer", "s3", "admin")
"""The servers inside weed: each also listens GRPC_OFFSET above its port, but for `s3`, whose gRPC port is named."""
JWT_VARIABLES = ("WEED_JWT_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_READ_KEY")
"""Without these the filer behind the S3 door answers anybody on this machine."""
GRANTS: Mapping[str, tuple[str, ...]] = {"ingest": ("desifre", "drop"), "transcriber": ("desifre",)}
"""The buckets that each service's own identity reads, writes and lists."""
BUCKETS = ("desifre", "drop")


def users(
    credentials: Mapping[str, tuple[str, str]],
    bound: Mapping[str, str] | None = None,
    closed: Mapping[str, str] | None = None,
) -> str:
    """The text of users.json: one identity per service, with the access and secret key given for it.

    `bound` are tenants with their own clients' secret. `closed` are those that lost it, with a secret that nobody
    knows: a weed that reads the file again keeps an identity that is gone from it, with all its rights.
    """
    services = [
        _identity(name, credentials[name], [f"{do}:{bucket}" for bucket in buckets for do in ("Read", "Write", "List")])
        for name, buckets in GRANTS.items()
    ]
    tenants = [_tenant(tenant, secret, drop.actions(tenant)) for tenant, secret in (bound or {}).items()]
    gone = [_tenant(tenant, secret, []) for tenant, secret in (closed or {}).items()]
    return json.dumps({"identities": [*services, *tenants, *gone]}, indent=1)


def _tenant(tenant: str, secret: str, actions: list[str]) -> dict[str, Any]:
    return _identity(drop.access_key(tenant), (drop.access_key(tenant), secret), actions)


def _identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}], "actions": actions}


def arguments(
    *, data: Path, users_file: Path, ports: Mapping[str, int], sockets: Path | None, bind: str = "127.0.0.1"
) -> list[str]:
    """The command line of `weed mini`, everything bound to loopback or, in a container, to its own network.

    `ports` has one of each in HTTP_PORTS and `s3_grpc`; `sockets` is where its two local sockets go
    (None leaves them in /tmp, for a folder whose name is too long for a socket).
    """
    flags = [
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        f"-ip.bind={bind}",
        f"-bucket={','.join(BUCKETS)}",
        f"-s3.config={users_file}",
        *(f"-{name}.port={ports[name]}" for name in HTTP_PORTS),
        f"-s3.port.grpc={ports['s3_grpc']}",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        # Volumes grow as they fill, so many slots cost nothing; out of slots weed answers 500 and ignores SIGTERM.
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=4000",
        # A master that remembers volumes may refuse writes for 15 s after a restart, "warming up" until every volume
        # server has reported (seen in one restart of eight). There is one volume server, in the same process, and it
        # reports its volumes and highest file keys at once.
        "-master.resumeState=false",
        # Nobody else asks this volume server for anything: no need to linger before it stops.
        "-volume.preStopSeconds=0",
        # With GOMEMLIMIT below: 446 MB at its peak instead of 1.56 GB, at the same speed.
        "-s3.concurrentFileUploadLimit=4",
    ]
    if sockets is not None:
        flags += [f"-filer.localSocket={sockets / 'filer.sock'}", f"-s3.localSocket={sockets / 's3.sock'}"]
    return flags


def environment(*, admin: tuple[str, str], jwt: Mapping[str, str]) -> dict[str, str]:
    """What weed needs in its environment: the admin's access and secret key, JWT keys, memory limits."""
    return {
        "AWS_ACCESS_KEY_ID": admin[0],
        "AWS_SECRET_ACCESS_KEY": admin[1],
        **{name: jwt[name] for name in JWT_VARIABLES},
        "GOGC": "50",
        "GOMEMLIMIT": "512MiB",
    }


def events(url: str, token: str) -> dict[str, str]:
    """What weed needs in its environment to tell of objects put into the bucket `drop`; it tells once, or never."""
    hook = {
        "ENABLED": "true",
        "ENDPOINT": url,
        "BEARER_TOKEN": token,
        "EVENT_TYPES": "create update",  # weed takes a list in an environment variable apart at white space
        "PATH_PREFIXES": "/buckets/drop",
    }
    return {f"WEED_NOTIFICATION_WEBHOOK_{name}": value for name, value in hook.items()}


def leftovers(ports: Mapping[str, int], grpc_offset: int) -> list[Path]:
    """The sockets in /tmp that weed with these ports makes, and leaves behind when it is killed."""
    names = [f"{name}-{ports[name]}" for name in ("filer", "s3")]
    names += [f"{name}-grpc-{ports[name] + grpc_offset}" for name in HTTP_PORTS if name != "s3"]
    names += [f"s3-grpc-{ports['s3_grpc']}"]
    return [Path("/tmp", f"seaweedfs-{name}.sock") for name in names]  # noqa: S108 - weed's own choice
