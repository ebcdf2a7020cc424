"""Links to one transcript: what they show, to whom, and how they end."""

import pytest

from services.contracts import objects
from services.contracts.auth import Claims
from services.contracts.errors import Problem
from services.contracts.parts import PEAKS_PER_SECOND
from services.ingest.erase import Eraser
from services.ingest.jobs import Jobs
from services.ingest.shares import Shares, Wish, tidy
from tests.doors.caller import Caller, Front

SOUND = b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(100))


async def shared(front: Front, me: Caller, data: bytes, **wish: object) -> tuple[str, str, str]:
    """A finished job that is shared: its id, the share's id and the token."""
    job = await me.submit(SOUND + data, name="talk.wav")
    await front.complete(job, "said in public")
    tenant = await front.tenant_of(job)
    await front.blobs.put_once(objects.peaks(tenant, job), bytes(range(3 * PEAKS_PER_SECOND)))
    reply = await me("POST", f"/jobs/{job}/shares", json=wish)
    assert reply.status == 201, reply.body
    made = reply.json()
    assert made["path"] == f"/s/{made['token']}"
    return job, made["share"], made["token"]


async def test_a_link_shows_one_transcript_to_anybody(front: Front, me: Caller) -> None:
    """Without a key: what it is, its words in any format with their corrections; no sound unless that is shared too."""
    job, _, token = await shared(front, me, b"shown")
    await me("POST", f"/jobs/{job}/versions", json={"base": 0, "segments": [{"index": 0, "text": "said in private"}]})
    seen = await front.nobody("GET", f"/shared/{token}")
    assert (seen.json()["title"], seen.json()["version"], seen.json()["with_audio"]) == ("talk.wav", 1, False)
    words = await front.nobody("GET", f"/shared/{token}/result")
    assert (words.json()["text"], words.json()["job_id"]) == ("said in private", "")
    assert (await front.nobody("GET", f"/shared/{token}/result", params={"format": "vtt"})).body.startswith(b"WEBVTT")
    for reply in (seen, words):
        assert (reply.headers["Referrer-Policy"], reply.headers["Cache-Control"]) == ("no-referrer", "no-store")
    for path in ("audio", "peaks"):
        assert (await front.nobody("GET", f"/shared/{token}/{path}")).code == "share_not_found"


async def test_a_link_with_sound(front: Front, me: Caller) -> None:
    """A link that was made so plays the recording, by range, and has its waveform; a fixed version stays."""
    job, _, token = await shared(front, me, b"heard", with_audio=True, title="A\u202e talk", version=0)
    await me("POST", f"/jobs/{job}/versions", json={"base": 0, "segments": [{"index": 0, "text": "other"}]})
    seen = (await front.nobody("GET", f"/shared/{token}")).json()
    assert (seen["title"], seen["version"], seen["peaks"]) == ("A talk", 0, True)
    some = await front.nobody("GET", f"/shared/{token}/audio", headers={"Range": "bytes=8-11"})
    assert (some.status, some.body, some.headers["Content-Type"]) == (206, b"WAVE", "audio/wav")
    assert len((await front.nobody("GET", f"/shared/{token}/peaks")).json()["peaks"]) == 3 * PEAKS_PER_SECOND


async def test_a_revoked_link_ends_at_once(front: Front, me: Caller) -> None:
    """A link that was revoked, one whose job was erased and one that never was are all the same: nothing."""
    job, share, token = await shared(front, me, b"revoked", with_audio=True)
    kept = (await me("POST", f"/jobs/{job}/shares", json={})).json()["token"]
    listed = (await me("GET", f"/jobs/{job}/shares")).json()["shares"]
    assert share in [one["share"] for one in listed]
    assert token not in str(listed)
    assert (await me("DELETE", f"/jobs/{job}/shares/{share}")).status == 204
    assert (await me("DELETE", f"/jobs/{job}/shares/{share}")).code == "share_not_found"
    for path in ("", "/result", "/audio", "/peaks"):
        assert (await front.nobody("GET", f"/shared/{token}{path}")).code == "share_not_found"
    assert (await front.nobody("GET", f"/shared/{kept}")).status == 200
    await me("DELETE", f"/jobs/{job}")
    assert (await front.nobody("GET", f"/shared/{kept}")).code == "share_not_found"
    assert (await front.nobody("GET", "/shared/dsf_share_" + "x" * 43)).code == "share_not_found"


async def test_a_link_ends_when_its_time_has_come(front: Front, me: Caller) -> None:
    """By the clock, to the second; what is left of it is tidied away, and of a job that was erased too."""
    job = await me.submit(b"for a minute")
    await front.complete(job)
    now = 1e9
    jobs = Jobs(front.bus, front.blobs, front.records, Eraser(front.blobs, front.records))
    shares = Shares(front.blobs, jobs, longest=3600, clock=lambda: now)
    who = Claims(tenant=await front.tenant_of(job), key_id="k", username="u", scopes=())
    share, token = await shares.make(who, job, Wish(expires_in=60))
    now += 59.9
    assert (await shares.open(token)).share == share
    now += 0.2
    assert await shares.listed(who.tenant, job) == []
    with pytest.raises(Problem, match="share_not_found"):
        await shares.open(token)
    assert await tidy(front.blobs, now) >= 2
    assert await front.blobs.stat(objects.shared(share.digest)) is None
    assert await front.blobs.stat(objects.share(who.tenant, job, share.share)) is None


@pytest.mark.parametrize(
    "wish", [{"expires_in": 5}, {"expires_in": 1e9}, {"expires_in": "nan"}, {"title": "x" * 201}, {"for": "ever"}]
)
async def test_shares_that_cannot_be(front: Front, me: Caller, wish: dict[str, object]) -> None:
    """A share for too short or too long a time, or with what it does not take, is refused."""
    job = await me.submit(repr(wish).encode())
    await front.complete(job)
    assert (await me("POST", f"/jobs/{job}/shares", json=wish)).code == "share_invalid"


async def test_who_may_share(front: Front, me: Caller) -> None:
    """A foreign job is no job, a key that may only read makes no links, and only a transcript can be shared."""
    job, share, _ = await shared(front, me, b"whose link")
    stranger = await front.nobody.sign_up()
    assert (await stranger("POST", f"/jobs/{job}/shares", json={})).code == "job_not_found"
    assert (await stranger("GET", f"/jobs/{job}/shares")).code == "job_not_found"
    assert (await stranger("DELETE", f"/jobs/{job}/shares/{share}")).code == "job_not_found"
    reads = Caller(me.session, me.base, (await me("POST", "/keys", json={"scopes": ["read"]})).json()["api_key"])
    assert (await reads("POST", f"/jobs/{job}/shares", json={})).code == "scope_missing"
    assert (await me("POST", f"/jobs/{await me.submit(b'runs')}/shares", json={})).code == "job_not_finished"


async def test_no_token_is_in_the_log(front: Front, me: Caller) -> None:
    """Logs and metrics know routes by their templates."""
    _, _, token = await shared(front, me, b"not logged")
    await front.nobody("GET", f"/shared/{token}/result")
    await front.nobody("GET", f"/s/{token}")
    assert token not in await front.logged("/shared/{token}", "/s/{token}")
