"""The two servers under the service: who gets in, and what they may do there."""

import io

import nats
import pytest
from minio import Minio
from minio.error import S3Error
from nats.aio.client import Client

from tests.support import NatsServer, StoreServer


async def test_bus_lets_in_only_who_has_a_password(nats_server: NatsServer) -> None:
    """A user gets in with its own password and nobody with a wrong one."""
    connection = await nats.connect(nats_server.url, **nats_server.login("ingest"))
    await connection.close()

    async def quiet(_: Exception) -> None:
        pass

    stranger = Client()
    with pytest.raises(nats.errors.Error):
        await stranger.connect(
            nats_server.url,
            user="ingest",
            password="guess",
            allow_reconnect=False,
            max_reconnect_attempts=0,
            error_cb=quiet,
        )
    await stranger.close()


def test_store_keeps_each_identity_to_its_buckets(store_server: StoreServer) -> None:
    """The transcriber writes to the service's bucket and is refused in the drop."""
    access_key, secret_key = store_server.keys_of("transcriber")
    client = Minio(store_server.endpoint, access_key, secret_key, secure=False)
    client.put_object("desifre", "probe", io.BytesIO(b"words"), 5)
    assert client.get_object("desifre", "probe").data == b"words"
    with pytest.raises(S3Error, match="AccessDenied"):
        client.put_object("drop", "probe", io.BytesIO(b"words"), 5)
