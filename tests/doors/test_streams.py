"""Streamed results: sockets and server-sent events, over everything that breaks them."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from structlog.testing import capture_logs

from services.contracts import subjects
from services.contracts.auth import KeyInfo, KeyRef
from services.contracts.stream import Cursor, Event, Watching
from tests.doors.caller import Caller, Front
from tests.doors.watcher import heard, parts, refused, socket, sse

NO_JOB = "job_01M83PRRQKZGF5RJXYNWRWV2GN"


async def with_parts(front: Front, me: Caller, count: int, name: bytes = b"watched") -> tuple[str, str]:
    """A job of which so many parts were heard; its tenant and its id."""
    job = await me.submit(name)
    tenant = await front.tenant_of(job)
    for part in range(count):
        await heard(front.bus, tenant, job, part)
    return tenant, job


async def test_a_job_is_told_from_its_start_to_its_end(front: Front, me: Caller) -> None:
    """What is stored is replayed, what comes follows, each event once and in order, and the last state ends it."""
    tenant, job = await with_parts(front, me, 3)
    async with socket(me) as it:
        begun = await it.watch(job)
        assert (begun["type"], begun["job_id"], begun["after"]) == ("watching", job, None)
        view = (await me("GET", f"/jobs/{job}")).json()
        assert begun["job"] == view | {"queue": None}
        events = await it.events(4)
        await heard(front.bus, tenant, job, 3)
        await front.complete(job)
        events += await it.to_the_end()
        await it.quiet()
        again = await it.watch(job, after=events[-1]["cursor"])
        assert again["job"]["state"] == "completed"
        await it.quiet()
    assert parts(events) == [0, 1, 2, 3]
    assert events[-1]["data"] == (await me("GET", f"/jobs/{job}")).json()
    sequences = [Cursor.parse(event["cursor"]).sequence for event in events]
    assert sequences == sorted(set(sequences))
    assert [Event.model_validate(event).job_id for event in events] == [job] * len(events)
    assert Watching.model_validate(begun).job_id == job


async def test_it_goes_on_after_a_cursor(front: Front, me: Caller) -> None:
    """With the cursor of any event exactly those after it come."""
    _, job = await with_parts(front, me, 5)
    async with socket(me) as it:
        await it.watch(job)
        events = await it.events(6)
    for n, event in enumerate(events[:-1]):
        async with socket(me) as it:
            assert (await it.watch(job, after=event["cursor"]))["after"] == event["cursor"]
            assert await it.events(5 - n) == events[n + 1 :]
            await it.quiet()


async def test_two_jobs_on_one_socket(front: Front, me: Caller) -> None:
    """Watches are independent: each job's events come once, and an end of one watch is not the other's."""
    tenant, first = await with_parts(front, me, 1, b"first")
    _, second = await with_parts(front, me, 1, b"second")
    async with socket(me) as it:
        await it.watch(first)
        await it.events(2)
        await it.watch(second)
        await it.events(2)
        await it.say(type="unwatch", job_id=first)
        assert await it.next() == {"type": "unwatched", "job_id": first}
        await heard(front.bus, tenant, first, 1)
        await heard(front.bus, tenant, second, 1)
        [event] = await it.events(1)
        assert (event["job_id"], event["data"]["part"]) == (second, 1)
        await it.quiet()


async def test_all_of_ones_own_jobs(front: Front, me: Caller) -> None:
    """`all` tells of every job of the tenant from now on, of no other tenant's, and goes on after a cursor."""
    tenant, first = await with_parts(front, me, 1, b"before")
    other_tenant, foreign = await with_parts(front, await me.sign_up(), 1, b"foreign")
    async with socket(me) as it:
        begun = await it.watch("all")
        assert begun["job"] is None
        await heard(front.bus, other_tenant, foreign, 1)
        await heard(front.bus, tenant, first, 1)
        second = await me.submit(b"second")
        seen = await it.events(2)
        assert [(event["job_id"], event["kind"]) for event in seen] == [(first, "segments"), (second, "state")]
    await heard(front.bus, tenant, second, 0)
    await heard(front.bus, tenant, first, 2)
    async with socket(me) as it:
        assert (await it.watch("all", after=seen[-1]["cursor"]))["after"] == seen[-1]["cursor"]
        missed = await it.events(2)
        assert [(event["job_id"], event["data"]["part"]) for event in missed] == [(second, 0), (first, 2)]
        await it.quiet()
    async with socket(me) as it:
        await it.watch("all", after=begun["after"])
        assert await it.events(4) == seen + missed


async def test_anothers_job_is_no_job(front: Front, me: Caller) -> None:
    """Another tenant's job, one that never was and no id at all are answered alike, on the socket and over HTTP."""
    _, foreign = await with_parts(front, await me.sign_up(), 1)
    async with socket(me) as it:
        answers = [await it.watch(job) for job in (foreign, NO_JOB, "*", ">", "")]
    assert {answer["code"] for answer in answers} == {"job_not_found"}
    assert len({str(answer | {"job_id": ""}) for answer in answers}) == 1
    for job in (foreign, NO_JOB):
        assert (await me("GET", f"/jobs/{job}/events")).code == "job_not_found"


async def test_what_was_erased_is_not_shown(front: Front, me: Caller) -> None:
    """Of an erased job nothing is told but that it was erased, though the stream still holds its words."""
    async with socket(me) as it:
        begun = await it.watch("all")
    tenant, job = await with_parts(front, me, 2, b"secret")
    await front.complete(job, "secret words")
    assert (await me("DELETE", f"/jobs/{job}")).json()["state"] == "erased"
    async with socket(me) as it:
        assert (await it.watch(job))["code"] == "job_erased"
        await it.watch("all", after=begun["after"])
        [event] = await it.events(1)
        assert (event["job_id"], event["data"]["state"]) == (job, "erased")
        await heard(front.bus, tenant, job, 1)  # an engine that had not heard of it
        await it.quiet()
    assert (await me("GET", f"/jobs/{job}/events")).code == "job_erased"


async def test_a_slow_reader_is_told_to_watch_again(front: Front, me: Caller) -> None:
    """Who does not read gets no more kept for him than the backlog; he is told, and misses nothing."""
    tenant, job = await with_parts(front, me, 0, b"long")
    ingest = psutil.Process(front.stack.process("ingest").pid)
    count, size = 160, 250_000
    async with socket(me, max_msg_size=0) as it:
        await it.watch(job)
        await it.events(1)
        before = ingest.memory_info().rss
        for part in range(count):
            await heard(front.bus, tenant, job, part, "x" * size)
        grown = ingest.memory_info().rss - before
        events: list[dict[str, Any]] = []
        resyncs = 0
        while len(events) < count:
            message = await it.next()
            if message["type"] == "event":
                events.append(message)
            elif message["type"] == "resync":
                resyncs += 1
                assert message["after"] == events[-1]["cursor"]
                await it.say(type="watch", job_id=job, after=message["after"])
        await it.quiet()
    assert parts(events) == list(range(count))
    assert resyncs >= 1
    assert grown < count * size / 2


async def test_server_sent_events(front: Front, me: Caller) -> None:
    """The same messages as events with ids; after Last-Event-ID those that follow; at the end it ends, and stays so."""
    tenant, job = await with_parts(front, me, 2)
    async with socket(me) as it:
        begun = await it.watch(job)
        told = await it.events(3)
        reading = asyncio.create_task(_read(me, job), name="sse")
        await heard(front.bus, tenant, job, 2)
        await front.complete(job)
        told += await it.to_the_end()
    read = await reading
    assert [name for name, _, _ in read] == ["watching", *(event["kind"] for event in told)]
    assert read[0][2] == begun
    assert [data for _, _, data in read[1:]] == told
    assert [cursor for _, cursor, _ in read[1:]] == [event["cursor"] for event in told]
    rest = await _read(me, job, after=told[1]["cursor"])
    assert [data for _, _, data in rest[1:]] == told[2:]
    over = await me("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": told[-1]["cursor"]})
    assert (over.status, over.body) == (204, b"")
    assert (await me("GET", f"/jobs/{job}/events", params={"after": "yesterday"})).code == "malformed_request"


async def _read(me: Caller, job: str, after: str | None = None) -> list[tuple[str, str | None, Any]]:
    return [event async for event in sse(me, job, after)]


async def test_revocation_closes_what_is_open(front: Front, me: Caller) -> None:
    """When a key is revoked, wherever that was, its sockets and responses end, and those of another key do not."""
    tenant, job = await with_parts(front, me, 0)
    second = (await me("POST", "/keys", json={})).json()
    other = Caller(me.session, me.base, second["api_key"], second["key_id"])
    async with socket(me) as mine, socket(other) as theirs:
        await theirs.watch(job)
        await theirs.events(1)
        reading = asyncio.create_task(_read(other, job), name="sse")
        async with asyncio.timeout(10):
            while b"streams_open 3.0" not in (await me("GET", "/metrics")).body:
                await asyncio.sleep(0.02)
        await front.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=tenant, key_id=second["key_id"]), KeyInfo)
        async with asyncio.timeout(1):  # the promise
            assert await theirs.next() == {"type": "closing", "code": 4403, "reason": "revoked"}
            assert await theirs.closed() == 4403
        assert [name for name, _, _ in await reading] == ["watching", "state", "closing"]
        await mine.quiet()


async def test_a_key_that_expires_closes_what_is_open(front: Front, me: Caller) -> None:
    """A socket does not outlive its key."""
    made = (await me("POST", "/keys", json={"expires_in": 1.5})).json()
    async with socket(Caller(me.session, me.base, made["api_key"])) as it:
        await it.quiet()
        assert await it.next() == {"type": "closing", "code": 4403, "reason": "revoked"}
        assert await it.closed() == 4403


async def test_too_many_messages_are_read_more_slowly(front: Front, me: Caller) -> None:
    """Messages count as requests: over the rate they are refused with a time to come back, and the socket stays."""
    async with socket(me) as it:
        for _ in range(301):
            await it.say(type="ping")
        answers = [await it.next() for _ in range(301)]
    assert {answer["type"] for answer in answers[:290]} == {"pong"}
    assert (answers[-1]["type"], answers[-1]["code"]) == ("error", "rate_limited")
    assert answers[-1]["retry_after"] > 0


async def test_a_key_may_be_shown_in_many_places(front: Front, me: Caller) -> None:
    """In a header, in the path, and for browsers as a sub-protocol, of which only ours is echoed."""
    nobody = Caller(me.session, me.base)
    async with socket(nobody, f"/ws/{me.key}") as it:
        await it.quiet()
    for kind, shown in (("key", me.key), ("ticket", await ticket(me))):
        async with socket(nobody, protocols=("desifre.v1", f"{kind}.{shown}")) as it:
            assert it.ws.protocol == "desifre.v1"
            await it.quiet()
    headers = {"Authorization": f"Bearer {me.key}"}
    async with me.session.ws_connect(f"{me.base}/ws", headers=headers) as ws:
        await ws.send_str('{"type":"ping"}')
        assert await ws.receive_json() == {"type": "pong"}
    assert await refused(nobody) == (401, "no_key")
    assert await refused(nobody, "/ws/nonsense") == (403, "wrong_key")
    lonely = {"Sec-WebSocket-Protocol": f"key.{me.key}"}
    assert await refused(nobody, headers=lonely) == (400, "malformed_request")
    assert (await me("GET", "/ws")).code == "malformed_request"


async def ticket(me: Caller) -> str:
    """A fresh ticket."""
    reply = await me("POST", "/tickets")
    assert reply.status == 201
    return str(reply.json()["ticket"])


async def test_a_ticket_opens_one_socket(front: Front, me: Caller) -> None:
    """A ticket is long and random, works in the place of the key, once, and not after its key was revoked."""
    nobody = Caller(me.session, me.base)
    shown = await ticket(me)
    assert len(shown.removeprefix("dsf_ticket_")) >= 43
    async with socket(nobody, f"/ws/{shown}") as it:
        await it.quiet()
    assert await refused(nobody, f"/ws/{shown}") == (403, "ticket_invalid")
    assert await refused(nobody, "/ws/dsf_ticket_" + "a" * 43) == (403, "ticket_invalid")
    assert (await nobody("GET", "/jobs", headers={"x-api-key": await ticket(me)})).code == "wrong_key"
    late = await ticket(me)
    await me("DELETE", f"/keys/{me.key_id}")
    assert await refused(nobody, f"/ws/{late}") == (403, "wrong_key")


async def test_pages_of_other_origins_are_refused(front: Front, me: Caller) -> None:
    """A page of the service's own address may connect, another's may not, and what is no page may."""
    async with socket(me, origin=front.stack.http_url) as it:
        await it.quiet()
    headers = {"x-api-key": me.key or "", "Origin": "https://elsewhere.example"}
    assert await refused(me, headers=headers) == (403, "origin_refused")


async def test_a_tenant_holds_so_many_streams_open(front: Front, me: Caller) -> None:
    """Over its quota of streams (4) another one is refused with a time to come back, until one of them is closed."""
    _, job = await with_parts(front, me, 0)
    async with socket(me), socket(me), socket(me):
        async with socket(me):
            assert await refused(me) == (429, "too_many_streams")
            reply = await me("GET", f"/jobs/{job}/events")
            assert (reply.code, reply.headers["Retry-After"]) == ("too_many_streams", "5")
            async with socket(await me.sign_up()) as other:
                await other.quiet()
        async with asyncio.timeout(10):
            while await refused_now(me):
                await asyncio.sleep(0.02)


async def refused_now(me: Caller) -> bool:
    """Whether one more socket is one too many."""
    try:
        async with socket(me):
            return False
    except aiohttp.WSServerHandshakeError:
        return True


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "malformed_request"),
        ("[" * 50_000, "malformed_request"),
        ("[]", "malformed_request"),
        ('{"type":"sing"}', "malformed_request"),
        ('{"type":["watch"]}', "malformed_request"),
        ('{"type":"watch"}', "malformed_request"),
        ('{"type":"watch","job_id":"all","after":"yesterday"}', "malformed_request"),
        ('{"type":"start","model":"nonsense"}', "model_unknown"),
        ('{"type":"finalize"}', "malformed_request"),
    ],
)
async def test_messages_that_are_none(me: Caller, message: str | bytes, code: str) -> None:
    """What cannot be read, and what will only be there later, is answered with an error, and the socket stays open."""
    async with socket(me) as it:
        await (it.ws.send_bytes(message) if isinstance(message, bytes) else it.ws.send_str(message))
        answer = await it.next()
        assert (answer["type"], answer["code"]) == ("error", code)
        await it.quiet()


async def test_a_message_that_is_too_large(me: Caller) -> None:
    """A message over 256 KiB closes the socket with 1009."""
    async with socket(me) as it:
        await it.ws.send_str('{"type":"watch","job_id":"' + "x" * 270_000)
        assert await it.closed() == 1009


async def test_watching_needs_the_scope_to_read(front: Front, me: Caller) -> None:
    """A key that may stream and not read opens a socket and watches nothing."""
    made = (await me("POST", "/keys", json={"scopes": ["stream"]})).json()
    _, job = await with_parts(front, me, 0)
    async with socket(Caller(me.session, me.base, made["api_key"])) as it:
        assert (await it.watch(job))["code"] == "scope_missing"
        assert (await it.watch("all"))["code"] == "scope_missing"


async def test_no_key_and_no_ticket_in_any_log(front: Front, me: Caller) -> None:
    """Neither keys and tickets in paths and sub-protocols nor words of a transcript are in logs or metrics."""
    nobody, used = Caller(me.session, me.base), await ticket(me)
    tenant, job = await with_parts(front, me, 0)
    async with socket(nobody, f"/ws/{me.key}") as it:
        await it.watch(job)
        await heard(front.bus, tenant, job, 0, "canary-5b21")
        await it.events(2)
    async with socket(nobody, f"/ws/{used}") as it:
        await it.quiet()
    for _ in range(2):
        await refused(nobody, f"/ws/{used}")
        await refused(nobody, headers={"Sec-WebSocket-Protocol": f"key.{me.key}"})
        await refused(nobody, headers={"Sec-WebSocket-Protocol": f"ticket.{used}, key.{me.key}"})
        await nobody("GET", f"/ws/{me.key}/more")
    logs = "".join(path.read_text(errors="replace") for path in front.stack.home.logs.rglob("*") if path.is_file())
    metrics = (await me("GET", "/metrics")).body.decode()
    assert "/ws/{api_key}" in logs
    for text in (logs, metrics):
        assert (me.key or "")[-38:] not in text
        assert used[-43:] not in text
        assert "canary-5b21" not in text


async def test_the_example_of_the_docs(front: Front, me: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    """The client on the page of streamed results follows a job to its end."""
    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
    code = page.split("```python\n")[1].split("asyncio.run(")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - it is our own page
    tenant, job = await with_parts(front, me, 2)
    following = asyncio.create_task(names["follow"](me.base.replace("http", "ws") + "/ws", me.key, job), name="example")
    await heard(front.bus, tenant, job, 2)
    with capture_logs():  # ours, of this process: what is printed must be the example's
        await front.complete(job)
        await following
    printed = capsys.readouterr().out
    assert [line.split(" ")[0] for line in printed.splitlines()] == [
        "state",
        "segments",
        "segments",
        "segments",
        "state",
    ]
