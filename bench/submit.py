"""The bus door: how fast submissions are acknowledged, and how fast what they ask for is admitted behind that."""

import asyncio
import base64
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter

import nats
from nats.aio.client import Client

from bench.harness import Figure, Row, at, settle
from bench.rig import Rig
from infra.stack import Stack
from services.contracts import subjects
from services.contracts.auth import CreateKey, NewKey
from services.contracts.jobs import State

FRONT = ("nats", "s3", "keys", "ingest")
IN_FLIGHT = 32
ACKS, JOBS = 500.0, 50.0
"""A second, at least."""
PER_SECOND = 50
"""Submissions for each second that events are streamed in the row `relay`."""
AUDIO = 16_000
"""Bytes of one recording: some seconds of speech in Opus."""
PATIENCE = 300.0
MANY = {"keys": {"DESIFRE_QUOTA_JOBS": "100000"}}


async def measure(rig: Rig) -> Row:
    """One tenant's service publishes, by its own user, and reads by its own consumer what became of it."""
    count = round(PER_SECOND * rig.sizes.relay)
    row = Row(f"submissions over NATS, {IN_FLIGHT} in flight, each with {AUDIO / 1000:g} kB of audio")
    async with rig.home() as home, Stack(home, services=FRONT, settings=MANY) as stack:
        tenant = await _tenant(stack)
        login = await asyncio.to_thread(_grant, stack, tenant)
        nc = await nats.connect(login["url"], user=login["user"], password=login["password"])
        try:
            await settle()
            acks, acking, admitted, admitting = await _run(nc, login["domain"], tenant, count)
        finally:
            await nc.close()
    row.figures.append(Figure("acknowledgements", count / acking, "1/s", count=count, target=ACKS, more=True))
    row.figures.append(at(0.99, "one acknowledgement, p99", acks, "ms"))
    row.figures.append(
        Figure("admitted, from the first publication", count / admitting, "jobs/s", count=count, target=JOBS, more=True)
    )
    wrong = sum(abs(admitted.get(str(n), 0) - 1) for n in range(count))
    row.figures.append(Figure("lost or repeated", wrong, count=count, target=0))
    row.notes.append(f"all acknowledged after {acking:.1f} s, all admitted after {admitting:.1f} s")
    row.samples = {"acks": acks}
    return row


async def _run(nc: Client, domain: str, tenant: str, count: int) -> tuple[list[float], float, Counter[str], float]:
    """Milliseconds of each acknowledgement, seconds until the last, jobs by the publisher's id, seconds until those."""
    js = nc.jetstream(domain=domain)
    acks: list[float] = []
    numbers = itertools.count()

    async def publish() -> None:
        while (n := next(numbers)) < count:
            audio = base64.b64encode(random.Random(n).randbytes(AUDIO)).decode()
            message = json.dumps({"id": str(n), "audio": audio}).encode()
            asked = time.perf_counter()
            await js.publish(subjects.submit(tenant), message, stream=subjects.SUBMIT, timeout=30)
            acks.append((time.perf_counter() - asked) * 1000)

    async def read() -> Counter[str]:
        found: Counter[str] = Counter()
        events = await js.pull_subscribe_bind(subjects.reader(tenant), subjects.RESULTS)
        while len(found) < count:
            try:
                batch = await events.fetch(100, timeout=1)
            except (TimeoutError, nats.errors.Error, nats.js.errors.Error):
                await asyncio.sleep(0.05)  # the consumer is made at the first submission
                continue
            for event in batch:
                record = json.loads(event.data)
                if record["state"] == State.ACCEPTED:
                    found[record["external_id"]] += 1
                await event.ack()
        return found

    begun = time.perf_counter()
    reading = asyncio.create_task(read(), name="read")
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(publish(), name="publish")
    acking = time.perf_counter() - begun
    admitted = await asyncio.wait_for(reading, PATIENCE)
    return acks, acking, admitted, time.perf_counter() - begun


async def _tenant(stack: Stack) -> str:
    """A fresh tenant."""
    nc = await nats.connect(stack.nats_url, user="admin", password=stack.nats_password(), inbox_prefix=b"_INBOX_admin")
    try:
        ask = CreateKey(username="bench", address="127.0.0.1")
        return NewKey.model_validate_json(
            (await nc.request(subjects.KEYS_CREATE, ask.encode(), timeout=10)).data
        ).tenant
    finally:
        await nc.close()


def _grant(stack: Stack, tenant: str) -> dict[str, str]:
    """What `desifre nats grant` prints."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.stack", "nats-grant", tenant],
        env={"DESIFRE_HOME": str(stack.home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
