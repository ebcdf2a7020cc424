"""What every visitor sees: health, metrics, the reference, the first page, and errors of the address itself."""

import asyncio
import re

import pytest

from services.contracts.errors import Code
from tests.doors.caller import Caller, Front


async def test_live_and_ready(front: Front) -> None:
    """/livez says that the process turns, /readyz names what it needs."""
    assert (await front.nobody("GET", "/livez")).status == 200
    async with asyncio.timeout(60):
        while (ready := await front.nobody("GET", "/readyz")).status == 503:  # what answers late is away, too
            await asyncio.sleep(0.1)
    assert (ready.status, ready.json()["checks"]) == (200, {"bus": "ok", "store": "ok"})


async def test_metrics_hold_templates_and_no_ids(front: Front, me: Caller) -> None:
    """Metrics label requests by the route's template: no job, no key, no path that a client made up."""
    job = await me.submit(b"measured")
    await me("GET", f"/jobs/{job}")
    await me("GET", f"/made-up/{me.key}")
    text = (await front.nobody("GET", "/metrics")).body.decode()
    assert 'route="/jobs/{job}"' in text
    assert 'route="unmatched"' in text
    assert job not in text
    assert "made-up" not in text
    assert (me.key or "")[-38:] not in text


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_pages_need_nothing_from_outside(front: Front, path: str) -> None:
    """The pages load nothing but the service's own files, run nothing else and may not be framed."""
    reply = await front.nobody("GET", path)
    text = reply.body.decode()
    assert reply.headers["Content-Type"].startswith("text/html")
    assert re.findall(r"<iframe|(?:src|href)=[\"'](?:https?:)?//", text) == []
    inline = [tag for tag in re.findall(r"<(?:script|style)[^>]*>", text) if "src=" not in tag]
    assert inline == (["<style>"] if path == "/docs" else [])
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


async def test_the_reference_explains_every_error(front: Front) -> None:
    """Every error's `type` leads to a place on the page of the reference."""
    text = (await front.nobody("GET", "/docs")).body.decode()
    assert [code for code in Code if f'id="error-{code}"' not in text] == []


async def test_the_first_page_is_no_mirror(front: Front) -> None:
    """What a client calls itself by cannot become markup."""
    reply = await front.nobody("GET", "/", headers={"Host": 'x"><script>'})
    assert reply.body == (await front.nobody("GET", "/")).body
    assert b'x">' not in reply.body


async def test_addresses_and_methods_that_are_none(front: Front) -> None:
    """An unknown address is 404, a known one with another method 405 with those it takes."""
    missing = await front.nobody("GET", "/wp-admin")
    assert (missing.status, missing.code) == (404, "not_found")
    other = await front.nobody("PUT", "/jobs")
    assert (other.status, other.code, other.headers["Allow"]) == (405, "method_not_allowed", "GET, POST")


async def test_every_answer_has_a_request_id(front: Front) -> None:
    """The header's request id is the one in the error, and never the same twice."""
    first, second = await front.nobody("GET", "/nowhere"), await front.nobody("GET", "/livez")
    assert first.headers["x-request-id"] == first.json()["request_id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert second.headers["X-Content-Type-Options"] == "nosniff"
    assert "aiohttp" not in second.headers["Server"]
