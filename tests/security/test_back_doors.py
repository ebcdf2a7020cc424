"""The servers under the service have no other way in than the one with a password."""

import urllib.error
import urllib.request

import psutil
import pytest

from infra.stack.ports import LOOPBACK
from tests.support import NatsServer, StoreServer


def listening(pid: int | None) -> set[str]:
    """Addresses that a process listens on."""
    assert pid is not None
    connections = psutil.Process(pid).net_connections("inet")
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


async def test_nobody_from_outside_reaches_the_servers(nats_server: NatsServer, store_server: StoreServer) -> None:
    """Bus and store listen on the loopback with every port they have."""
    assert listening(nats_server.stack.process("nats").pid) == {LOOPBACK}
    assert listening(store_server.stack.process("s3").pid) == {LOOPBACK}


@pytest.mark.parametrize(
    ("port", "path"),
    [("s3", "/"), ("s3", "/desifre"), ("filer", "/buckets/desifre/"), ("filer", "/etc/iam/")],
)
def test_the_store_answers_nobody_without_a_key(store_server: StoreServer, port: str, path: str) -> None:
    """Neither the S3 door nor the filer behind it gives anything to a request without credentials."""
    url = f"http://{LOOPBACK}:{store_server.stack.wiring.ports[port]}{path}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=60)
    refused.value.close()
    assert refused.value.code in (401, 403)
