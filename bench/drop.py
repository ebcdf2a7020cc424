"""The bucket: how many dropped recordings a second become transcripts beside them."""

import asyncio
import io
import time

import nats
import urllib3
from minio import Minio

from bench.harness import Figure, Row, settle
from bench.rig import Rig
from infra.nats import permissions
from infra.stack import Stack
from services.contracts import objects, subjects
from services.contracts.auth import CreateKey, NewKey

COUNT = {True: 1000, False: 100}
"""Recordings in a full run and in a short one."""
SECONDS = 10
RATE = 8.0
"""Recordings a second that are to be reached on two cores."""
LONGEST = 900.0
AT_ONCE = 8
ENDINGS = 4
"""Files written for each."""
POLL, SOME = 0.25, 0.005
"""Seconds between two listings of what is there, and more for each recording that is still to come: a listing of
thousands costs the store as much as several recordings do."""


async def measure(rig: Rig) -> Row:
    """With the digest engine: what is measured is the way, not the words."""
    count = COUNT[rig.sizes.relay >= 60]
    settings = {
        "keys": {"DESIFRE_QUOTA_JOBS": str(2 * count), "DESIFRE_QUOTA_SECONDS": str(2 * SECONDS * count)},
        "transcriber": {"DESIFRE_ENGINE": "digest"},
    }
    data = await asyncio.to_thread(rig.speech.clips(1, 8, SECONDS)[0].path.read_bytes)
    async with rig.home() as home, Stack(home, settings=settings) as stack:
        tenant = await _sign_up(stack)
        pool = urllib3.PoolManager(maxsize=AT_ONCE)
        client = Minio(stack.store_endpoint, *stack.store_keys(), secure=False, region="us-east-1", http_client=pool)
        await settle()
        began = time.monotonic()
        places = asyncio.Semaphore(AT_ONCE)

        async def put(n: int) -> None:
            key = f"{objects.drop_in(tenant)}{n % 10}/{n:04d}.wav"
            async with places:
                await asyncio.to_thread(client.put_object, objects.DROP_BUCKET, key, io.BytesIO(data), len(data))

        await asyncio.gather(*(put(n) for n in range(count)))
        uploaded = time.monotonic()

        def written() -> int:
            found = client.list_objects(objects.DROP_BUCKET, f"{tenant}/out/", recursive=True)
            return sum(1 for _ in found)

        before = await asyncio.to_thread(written)
        async with asyncio.timeout(LONGEST):
            while (there := await asyncio.to_thread(written)) < ENDINGS * count:  # noqa: ASYNC110
                await asyncio.sleep(POLL + SOME * (count - there / ENDINGS))
        ended = time.monotonic()
    row = Row("dropped recordings, from the last upload to the last transcript beside them")
    done = before // ENDINGS
    row.figures.append(
        Figure(
            "recordings a second", (count - done) / (ended - uploaded), "/s", count=count - done, target=RATE, more=True
        )
    )
    row.notes.append(
        f"{count} recordings; uploaded in {uploaded - began:.1f} s, in which {done} were done already (not counted); "
        f"{count / (ended - began):.1f}/s from the first upload on"
    )
    return row


async def _sign_up(stack: Stack) -> str:
    """A new tenant."""
    nc = await nats.connect(stack.nats_url, user=permissions.ADMIN, password=stack.nats_password())
    try:
        ask = CreateKey(username="bench", address="127.0.0.1")
        answer = await nc.request(subjects.KEYS_CREATE, ask.model_dump_json().encode(), timeout=10)
        return NewKey.model_validate_json(answer.data).tenant
    finally:
        await nc.close()
