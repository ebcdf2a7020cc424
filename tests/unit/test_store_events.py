"""What stores say of new objects, each in its own way."""

import pytest

from services.ingest.store_events import tenants_of

TENANT = "abcdefgh01234567"


def weed(key: str, kind: str = "create") -> dict[str, object]:
    """SeaweedFS's webhook."""
    return {"event_type": kind, "key": key, "message": {"new_entry": {"name": "x"}}}


def s3(*keys: str, bucket: str = "drop") -> dict[str, object]:
    """S3's own shape."""
    return {"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys]}


@pytest.mark.parametrize(
    "event",
    [
        weed(f"/buckets/drop/{TENANT}/in/a.wav"),
        weed(f"/buckets/drop/{TENANT}/in/a/b.wav", "update"),
        s3(f"{TENANT}/in/a.wav"),
        s3(f"{TENANT}%2Fin%2Fa+b.wav", f"{TENANT}/out/a.wav.json"),
    ],
)
def test_what_was_put_into_a_tenants_folder_is_that_tenants(event: object) -> None:
    """Both stores' events name the tenant whose `in/` has something new."""
    assert tenants_of(event) == {TENANT}


@pytest.mark.parametrize(
    "event",
    [
        weed(f"/buckets/drop/{TENANT}/out/a.wav.json"),
        weed(f"/buckets/drop/{TENANT}/in/a.wav", "delete"),
        weed("/buckets/drop/.uploads/1/0001.part"),
        weed("/buckets/desifre/jobs/x"),
        s3(f"{TENANT}/in/a.wav", bucket="desifre"),
        s3("../in/a.wav", ""),
        {"Records": [None, {}, {"s3": []}]},
        {"Records": "x"},
        {},
        [],
        None,
        "x",
    ],
)
def test_everything_else_tells_of_nobody(event: object) -> None:
    """Our own writes, other buckets, deletions and nonsense wake nobody."""
    assert tenants_of(event) == set()
