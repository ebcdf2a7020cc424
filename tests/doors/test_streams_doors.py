"""Who may open a socket and how many, what is said on it that cannot be read, and what ends it."""

import asyncio
from typing import Any

import aiohttp
import pytest

from services.contracts import subjects
from services.contracts.auth import KeyInfo, KeyRef
from tests.doors.caller import Caller, Front
from tests.doors.watcher import heard, refused, socket, sse, ticket, with_parts


async def test_revocation_closes_what_is_open(front: Front, me: Caller) -> None:
    """When a key is revoked, wherever that was, its sockets and responses end, and those of another key do not."""
    tenant, job = await with_parts(front, me, 0)
    second = (await me("POST", "/keys", json={})).json()
    other = Caller(me.session, me.base, second["api_key"], second["key_id"])
    async with socket(me) as mine, socket(other) as theirs:
        await theirs.watch(job)
        await theirs.events(1)
        reading = sse(other, job)
        assert [(await anext(reading))[0] for _ in range(2)] == ["watching", "state"]
        await front.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=tenant, key_id=second["key_id"]), KeyInfo)
        async with asyncio.timeout(30):  # a second, on a machine that does nothing else
            assert await theirs.next() == {"type": "closing", "code": 4403, "reason": "revoked"}
            assert await theirs.closed() == 4403
        assert [name async for name, _, _ in reading] == ["closing"]
        await mine.quiet()


async def test_a_key_that_expires_closes_what_is_open(front: Front, me: Caller) -> None:
    """A socket does not outlive its key."""
    for seconds in (3, 12, 48):
        made = (await me("POST", "/keys", json={"expires_in": seconds})).json()
        try:
            async with socket(Caller(me.session, me.base, made["api_key"])) as it:
                assert await it.next() == {"type": "closing", "code": 4403, "reason": "revoked"}
                assert await it.closed() == 4403
        except aiohttp.WSServerHandshakeError:
            continue  # on a busy machine its life was over before it was shown
        return
    pytest.fail("no key lived long enough")


async def test_too_many_messages_are_read_more_slowly(front: Front, me: Caller) -> None:
    """Messages count as requests: over the rate they are refused with a time to come back, and the socket stays."""
    async with socket(me) as it:
        answers: list[dict[str, Any]] = []
        while not answers or answers[-1]["type"] == "pong":  # five more are granted with every second that it takes
            for _ in range(20):
                await it.say(type="ping")
            answers += [await it.next() for _ in range(20)]
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
        async with asyncio.timeout(30):
            while await refused_now(me):
                await asyncio.sleep(0.15)


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
    logs = await front.logged("/ws/{api_key}")
    metrics = (await me("GET", "/metrics")).body.decode()
    for text in (logs, metrics):
        assert (me.key or "")[-38:] not in text
        assert used[-43:] not in text
        assert "canary-5b21" not in text
