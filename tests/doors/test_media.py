"""A recording in a player: an address without a key, and the waveform."""

import pytest

from services.contracts import objects
from services.contracts.parts import PEAKS_PER_SECOND
from tests.doors.caller import Caller, Front

SOUND = b"fLaC" + bytes(range(256))


async def test_a_media_element_plays_and_seeks(front: Front, me: Caller) -> None:
    """The address needs no key, takes ranges any number of times, and says what it holds."""
    job = await me.submit(SOUND + b"seek")
    made = await me("POST", f"/jobs/{job}/media")
    assert (made.status, made.json()["type"]) == (201, "audio/flac")
    for first in (0, 100, 4):
        some = await front.nobody("GET", made.json()["url"], headers={"Range": f"bytes={first}-"})
        assert (some.status, some.body) == (206, (SOUND + b"seek")[first:])
    assert some.headers["Content-Type"] == "audio/flac"
    assert "sandbox" in some.headers["Content-Security-Policy"]
    tag = some.headers["ETag"]
    assert (await front.nobody("GET", made.json()["url"], headers={"Range": "bytes=4-", "If-Range": tag})).status == 206
    other = {"Range": "bytes=4-", "If-Range": '"other"'}
    assert (await front.nobody("GET", made.json()["url"], headers=other)).status == 200


async def test_a_page_as_a_recording_is_no_page(me: Caller) -> None:
    """What somebody uploads is never sent as something that a browser runs."""
    job = await me.submit(b"<!doctype html><script>alert(1)</script>", name="x.html")
    reply = await me("GET", f"/jobs/{job}/audio")
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Disposition"].startswith("attachment")


async def test_an_address_is_worth_what_its_key_is(front: Front, me: Caller) -> None:
    """With the key its addresses end; another tenant gets none for a job that is not its own."""
    job = await me.submit(SOUND + b"revoked")
    second = (await me("POST", "/keys", json={"scopes": ["read"]})).json()
    url = (await Caller(me.session, me.base, second["api_key"])("POST", f"/jobs/{job}/media")).json()["url"]
    assert (await front.nobody("GET", url)).status == 200
    await me("DELETE", f"/keys/{second['key_id']}")
    assert (await front.nobody("GET", url)).code == "wrong_key"
    assert (await (await front.nobody.sign_up())("POST", f"/jobs/{job}/media")).code == "job_not_found"
    assert (await front.nobody("GET", "/media/dsf_media_none")).code == "ticket_invalid"
    ticket = (await me("POST", "/tickets")).json()["ticket"]
    assert (await front.nobody("GET", f"/media/{ticket}")).code == "ticket_invalid"


async def test_a_waveform_at_any_size(front: Front, me: Caller) -> None:
    """The highest of each stretch, as many as are asked for, of the whole or of a part."""
    job = await me.submit(SOUND + b"waves")
    assert (await me("GET", f"/jobs/{job}/peaks")).code == "peaks_not_available"
    data = bytes(n % 251 for n in range(100 * PEAKS_PER_SECOND))
    await front.blobs.put_once(objects.peaks(await front.tenant_of(job), job), data)
    whole = (await me("GET", f"/jobs/{job}/peaks", params={"points": "10"})).json()
    assert (whole["duration"], whole["start"], whole["end"]) == (100.0, 0.0, 100.0)
    assert whole["peaks"] == [max(data[at : at + 200]) for at in range(0, 2000, 200)]
    some = (await me("GET", f"/jobs/{job}/peaks", params={"start": "1.02", "end": "2"})).json()
    assert (some["start"], some["end"], some["peaks"]) == (1.0, 2.0, list(data[20:40]))
    none = (await me("GET", f"/jobs/{job}/peaks", params={"start": "9", "end": "3"})).json()
    assert none["peaks"] == []
    assert (await (await front.nobody.sign_up())("GET", f"/jobs/{job}/peaks")).code == "job_not_found"


@pytest.mark.parametrize(
    "name", ["..%2findex.html", "%2e%2e%2fpage.py", "../page.py", ".hidden", "index.html%00", "no"]
)
async def test_the_page_serves_its_files_and_no_other(front: Front, name: str) -> None:
    """Whatever stands in the path, only what lies in the page's folder comes out."""
    assert (await front.nobody("GET", f"/page/{name}")).status in (404, 400)


async def test_the_page_is_asked_for_again_and_not_sent_again(front: Front) -> None:
    """`/`, a share's address and the file are the same page; who has it gets 304."""
    home, share = await front.nobody("GET", "/"), await front.nobody("GET", "/s/whatever")
    assert home.body == share.body == (await front.nobody("GET", "/page/index.html")).body
    again = await front.nobody("GET", "/", headers={"If-None-Match": home.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert "script-src 'self'" in home.headers["Content-Security-Policy"]
    assert home.headers["Referrer-Policy"] == "no-referrer"
