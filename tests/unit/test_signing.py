"""Presigned URLs: the signature is AWS's, and the host is the one that clients send."""

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from minio.credentials import Credentials
from minio.signer import presign_v4

from services.ingest.settings import Settings
from services.ingest.signing import Presigner, presigner_of

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize("key", ["uploads/t/upl_1/data", "a b/ü+&=?"])
def test_the_signature_is_that_of_another_implementation(key: str) -> None:
    """With no header but the host, the URL is signed as the minio SDK signs it."""
    ours = Presigner("http://store.example:9000", "desifre", "access", "secret").put(
        key, now=NOW, expires=60, headers={}, query={"partNumber": "2", "uploadId": "x/y"}
    )
    plain = urlsplit(ours.split("?")[0] + "?partNumber=2&uploadId=x%2Fy")
    theirs = presign_v4(
        method="PUT", url=plain, region="us-east-1", credentials=Credentials("access", "secret"), date=NOW, expires=60
    )
    assert parse_qs(urlsplit(ours).query) == parse_qs(theirs.query)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://files.example.org", "files.example.org"),
        ("https://files.example.org:443/", "files.example.org"),
        ("http://files.example.org:9000", "files.example.org:9000"),
    ],
)
def test_the_address_is_the_public_one(endpoint: str, host: str) -> None:
    """URLs name the address that the operator gave for clients, without a port that goes without saying."""
    signer = presigner_of(Settings(store_public_endpoint=endpoint, store_access_key="a"))
    assert urlsplit(signer.put("k", now=NOW, expires=1, headers={}, query={})).netloc == host


def test_without_one_it_is_the_stores_own() -> None:
    """Unless set, it is where the service itself finds the store."""
    signer = presigner_of(Settings(store_endpoint="127.0.0.1:9000", store_access_key="a"))
    assert signer.endpoint == "http://127.0.0.1:9000"
    with pytest.raises(ValueError, match="https://host"):
        Settings(store_public_endpoint="files.example.org")
