"""What is written beside dropped objects, and what becomes of these, on a real store."""

import pytest

from services.contracts import objects
from services.contracts.auth import Claims as Who
from services.contracts.jobs import Door, Lane
from services.ingest.asked import Origin
from services.ingest.drop import job_of
from services.ingest.sidecars import Sidecars
from tests.contract.ingest_support import OPTIONS, Ingest, pieces


async def test_what_is_put_in_place_of_an_original_meanwhile_stays(
    ingest: Ingest, who: Who, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is overwritten while the one before is moved away is a recording that nobody has read yet."""
    drop = ingest.blobs.bucket(objects.DROP_BUCKET)
    key = objects.drop_in(who.tenant) + "talk.wav"
    await drop.put(key, b"first")
    stat = await drop.stat(key)
    assert stat is not None
    admitted = await ingest.admission.receive(
        who,
        pieces(b"first"),
        options=OPTIONS,
        door=Door.DROP,
        lane=Lane.BATCH,
        length=stat.size,
        origin=Origin(dropped=key, etag=stat.etag),
        job=job_of(b"secret", stat),
    )
    await ingest.complete(admitted.record)
    record = await ingest.records.get(who.tenant, admitted.record.job)
    assert record is not None
    copy = drop.copy

    async def copy_while_it_is_overwritten(source: str, target: str) -> None:
        await copy(source, target)
        await drop.put(source, b"second")

    monkeypatch.setattr(drop, "copy", copy_while_it_is_overwritten)
    await Sidecars(ingest.blobs, drop, ingest.records, originals="move").write(record)
    assert await drop.get(objects.drop_done(who.tenant, key)) == b"first"
    assert await drop.get(key) == b"second"
