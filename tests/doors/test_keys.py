"""Keys at the door: who comes in, what a key may do, and that a revoked one is nothing at once."""

import asyncio
import re

import pytest

from services.contracts import subjects
from services.contracts.auth import KeyInfo, KeyRef
from tests.docs.pages import route_table
from tests.doors.caller import Caller, Front, form

KEYED = [
    (route.method, re.sub(r"{\w+}", "job_1", route.path))
    for route in route_table()
    if route.scope and "{api_key}" not in route.path
]
"""Every route with a key that is not in the path itself, from the table that the router is made of."""
STREAMING = {("GET", "/ws"), ("GET", "/v1/listen"), ("POST", "/tickets")}
"""Those that a key which may only stream does open."""


@pytest.mark.parametrize(("method", "path"), KEYED)
async def test_without_a_key_and_with_a_wrong_one(front: Front, method: str, path: str) -> None:
    """No key is 401, a key that is none, a mistyped and an unknown one are 403, on every route; OpenAI says 401."""
    nobody = front.nobody
    assert (await nobody(method, path)).code == "no_key"
    right = (await nobody.sign_up()).key or ""
    swapped = "0" if right[-1] != "0" else "1"
    for wrong in ("nonsense", right[:-1] + swapped, "tk_" + "a" * 32):
        reply = await nobody(method, path, headers={"x-api-key": wrong, "X-Forwarded-For": "127.0.0.1"})
        there = path.startswith("/v1/") and path != "/v1/listen"
        assert (reply.status, reply.code) == ((401, "invalid_api_key") if there else (403, "wrong_key"))


@pytest.mark.parametrize(("method", "path"), KEYED)
async def test_a_key_without_the_scope(front: Front, me: Caller, method: str, path: str) -> None:
    """A key whose one scope is another is refused on every route, before anything is looked at."""
    scope = "keys:self" if (method, path) in STREAMING else "stream"
    made = (await me("POST", "/keys", json={"scopes": [scope]})).json()
    stranger = Caller(front.nobody.session, front.nobody.base, made["api_key"])
    reply = await stranger(method, path)
    assert (reply.status, reply.code) == (403, "scope_missing")


async def test_a_key_comes_in_either_header(me: Caller, front: Front) -> None:
    """`x-api-key` and `Authorization: Bearer` are the same."""
    reply = await front.nobody("GET", "/usage", headers={"Authorization": f"Bearer {me.key}"})
    assert reply.status == 200


async def test_sign_up_as_the_old_service_did_it(front: Front) -> None:
    """The name in the query or in a JSON body gives a key, its id and the quota; each time another tenant."""
    by_query = await front.nobody("POST", "/generate-key", params={"username": "Ayşe"})
    by_body = await front.nobody("POST", "/generate-key", json={"username": "Ayşe"})
    assert by_query.json()["username"] == by_body.json()["username"] == "Ayşe"
    assert by_query.json()["api_key"] != by_body.json()["api_key"]
    assert {"key_id", "quota"} <= by_query.json().keys()
    assert (await front.nobody("POST", "/generate-key")).code == "username_invalid"
    assert (await front.nobody("POST", "/generate-key", params={"username": "a\nb"})).code == "username_invalid"


async def test_a_page_of_another_origin_gets_no_key(front: Front) -> None:
    """A page elsewhere cannot make its visitors sign up."""
    reply = await front.nobody(
        "POST", "/generate-key", params={"username": "x"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert (reply.status, reply.code) == (403, "signup_closed")


async def test_a_revoked_key_is_nothing_at_once(front: Front, me: Caller) -> None:
    """The answer to a revocation comes when the key does not work any more."""
    second = (await me("POST", "/keys", json={"label": "second"})).json()
    other = Caller(front.nobody.session, front.nobody.base, second["api_key"], second["key_id"])
    assert (await other("GET", "/usage")).status == 200
    assert (await me("DELETE", f"/keys/{second['key_id']}")).json()["revoked"] > 0
    assert (await other("GET", "/usage")).code == "wrong_key"
    assert (await me("DELETE", "/keys/unknown0")).code == "key_not_found"


async def test_a_key_revoked_elsewhere_is_nothing_within_a_second(front: Front, me: Caller) -> None:
    """A revocation that did not come through this door is heard of by its announcement."""
    tenant = await front.tenant_of(await me.submit(b"mine"))
    await front.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=tenant, key_id=me.key_id), KeyInfo)
    async with asyncio.timeout(30):  # a second, on a machine that does nothing else
        while (reply := await me("GET", "/usage")).status == 200:
            await asyncio.sleep(0.15)
    assert reply.code == "wrong_key"


async def test_keys_are_listed_without_their_secrets(me: Caller) -> None:
    """The list names each key by its id and holds no secret."""
    await me("POST", "/keys", json={"label": "laptop", "scopes": ["read"]})
    reply = await me("GET", "/keys")
    assert [key["label"] for key in reply.json()["keys"]] == [None, "laptop"]
    assert (me.key or "")[-20:] not in reply.body.decode()


async def test_a_key_does_only_what_its_scopes_say(front: Front, me: Caller) -> None:
    """A key without a scope is told which one it lacks, and cannot hand on what it has not."""
    reading = (await me("POST", "/keys", json={"scopes": ["read", "keys:self"]})).json()
    reader = Caller(front.nobody.session, front.nobody.base, reading["api_key"])
    refused = await reader("POST", "/jobs", data=b"x")
    assert (refused.status, refused.code) == (403, "scope_missing")
    assert "submit" in refused.json()["detail"]
    assert (await reader("GET", "/jobs")).status == 200
    assert (await reader("POST", "/keys", json={"scopes": ["submit"]})).code == "scope_missing"


async def test_a_rotated_key_works_on_and_says_so(front: Front, me: Caller) -> None:
    """After a rotation both keys work; the old one's answers carry a Deprecation date."""
    new = (await me("POST", f"/keys/{me.key_id}/rotate", params={"overlap": "3600"})).json()
    fresh = Caller(front.nobody.session, front.nobody.base, new["api_key"])
    assert "Deprecation" not in (await fresh("GET", "/usage")).headers
    old = await me("GET", "/usage")
    assert old.status == 200
    assert re.fullmatch(r"@\d+", old.headers["Deprecation"])


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"colour": "red"}', b'{"scopes": ["everything"]}', b"[" * 200_000])
async def test_senseless_wishes_for_keys(me: Caller, body: bytes) -> None:
    """What cannot be a wish for a key is refused."""
    reply = await me("POST", "/keys", headers={"Content-Type": "application/json"}, data=body)
    assert reply.code == "malformed_request"


async def test_too_many_requests_are_told_when_to_come_back(me: Caller) -> None:
    """A tenant over its rate gets 429 with Retry-After; others do not notice."""
    taken = 0
    while (
        reply := await me("GET", "/v1/models")
    ).status == 200:  # where a minute ends among them, a few more are taken
        taken += 1
    assert (reply.status, reply.code) == (429, "rate_limit_exceeded")
    assert 300 <= taken < 600
    assert 1 <= int(reply.headers["Retry-After"]) <= 120
    assert (await me.sign_up()).key is not None


async def test_guessing_is_slowed_down(front: Front) -> None:
    """An address that shows wrong keys over and over gets 429, seen through a proxy of ours."""
    headers = {"x-api-key": "nonsense", "X-Forwarded-For": "203.0.113.7"}
    told = 0
    while (reply := await front.nobody("GET", "/jobs", headers=headers)).status == 403:  # a minute may end among them
        told += 1
    assert (reply.status, reply.code) == (429, "rate_limited")
    assert 20 <= told < 40
    other = {"x-api-key": "nonsense", "X-Forwarded-For": "203.0.113.8"}
    assert (await front.nobody("GET", "/jobs", headers=other)).status == 403


async def test_no_secret_in_any_log(front: Front, me: Caller) -> None:
    """Neither a key nor a file name is in what the processes wrote, also where a request could not be read."""
    key, name = me.key or "", "canary-7f3a.wav"
    await me("GET", f"/socket/{key}")
    await me("GET", "/jobs", params={"before": key})
    await me("POST", "/jobs", data=form(name=name))
    await me("POST", "/jobs", params={key: "x"}, data=b"x")
    host, port = front.stack.http_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /jobs HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\x01\r\n\r\n".encode())
    assert (await reader.readline()).split()[1] == b"400"
    writer.close()
    logs = await front.logged("unmatched", "a request could not be read")
    assert key[-38:] not in logs
    assert name not in logs
