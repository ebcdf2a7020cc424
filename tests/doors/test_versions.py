"""Corrections over HTTP: new versions beside the original, in every format, and who may make them."""

import asyncio

import pytest

from services.contracts import objects
from services.contracts.formats import Format
from services.contracts.ids import new_job_id
from tests.doors.caller import Caller, Front

TEXT = "the quick brown fox jumps over"


async def corrected(front: Front, me: Caller, data: bytes) -> str:
    """A job whose fourth word was corrected in version 1."""
    job = await me.submit(data)
    await front.complete(job, TEXT)
    reply = await me(
        "POST",
        f"/jobs/{job}/versions",
        json={"base": 0, "segments": [{"index": 0, "text": "the quick brown ox jumps over"}]},
    )
    assert reply.status == 201, reply.body
    return job


async def read(me: Caller, job: str, version: str | None = None, form: str = "json") -> object:
    """A result in a version."""
    params = {"format": form} | ({"version": version} if version else {})
    reply = await me("GET", f"/jobs/{job}/result", params=params)
    assert reply.status == 200, reply.body
    return reply.json() if form == "json" else reply.body.decode()


async def test_a_correction_is_a_new_version(front: Front, me: Caller) -> None:
    """The corrected word is marked and keeps its times; the other words are as they were, and so is version 0."""
    job = await corrected(front, me, b"to be corrected")
    latest, original = await read(me, job, "latest"), await read(me, job)
    assert (latest["version"], original["version"]) == (1, 0)
    assert (latest["text"], original["text"]) == ("the quick brown ox jumps over", TEXT)
    assert latest["words"][3] == {"word": " ox", "start": 3.0, "end": 3.8, "probability": 0.9, "corrected": True}
    assert latest["words"][:3] + latest["words"][4:] == original["words"][:3] + original["words"][4:]
    assert all("corrected" not in word for word in original["words"])
    [segment] = latest["segments"]
    assert (segment["first_word"], segment["word_count"]) == (0, 6)


@pytest.mark.parametrize("form", [form for form in Format if form is not Format.JSON])
async def test_every_format_has_the_correction(front: Front, me: Caller, form: Format) -> None:
    """Any format renders from any version."""
    job = await corrected(front, me, f"corrected as {form}".encode())
    assert "brown ox" in str(await read(me, job, "1", form)).replace("  ", " ")
    assert "brown fox" in str(await read(me, job, "0", form))


async def test_words_are_changed_removed_inserted_and_merged(front: Front, me: Caller) -> None:
    """Words by their times: whoever sends back what was read changes nothing; the rest is marked."""
    job = await me.submit(b"by words")
    await front.complete(job, TEXT)
    words = (await read(me, job))["words"]
    merged = [
        words[0],
        {"word": " quick-brown", "start": 1.0, "end": 2.8},
        {"word": " old", "start": 2.9, "end": 2.95},
        *words[4:],
    ]
    reply = await me(
        "POST", f"/jobs/{job}/versions", headers={"If-Match": '"0"'}, json={"segments": [{"index": 0, "words": merged}]}
    )
    assert (reply.status, reply.json()["corrected"], reply.json()["segments"]) == (201, 2, [0])
    assert reply.headers["Location"] == f"/jobs/{job}/result?version=1"
    latest = await read(me, job, "latest")
    assert latest["text"] == "the quick-brown old jumps over"
    assert [word["word"] for word in latest["words"] if word.get("corrected")] == [" quick-brown", " old"]
    assert [word["probability"] for word in latest["words"]] == [0.9, 0.9, 1.0, 0.9, 0.9]
    again = await me(
        "POST", f"/jobs/{job}/versions", json={"base": 1, "segments": [{"index": 0, "words": latest["words"]}]}
    )
    assert (again.status, again.json()["version"]) == (200, 1)
    back = await me("POST", f"/jobs/{job}/versions", json={"base": 1, "segments": [{"index": 0, "words": words}]})
    assert (back.status, back.json()["segments"]) == (201, [])
    assert (await read(me, job, "latest"))["words"] == words


async def test_of_two_who_correct_the_same_version_one_is_first(front: Front, me: Caller) -> None:
    """The other learns which version to read; no correction is lost and none overwritten."""
    job = await corrected(front, me, b"two editors")
    tries = [
        me("POST", f"/jobs/{job}/versions", json={"base": 1, "segments": [{"index": 0, "text": f"editor {n}"}]})
        for n in range(5)
    ]
    replies = await asyncio.gather(*tries)
    assert sorted(reply.status for reply in replies) == [201, 409, 409, 409, 409]
    lost = next(reply for reply in replies if reply.status == 409)
    assert (lost.code, lost.json()["latest"]) == ("version_conflict", 2)
    winner = [n for n, reply in enumerate(replies) if reply.status == 201]
    assert (await read(me, job, "latest"))["text"] == f"editor {winner[0]}"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"base": 0, "segments": []}, "malformed_request"),
        ({"segments": [{"index": 0, "text": "x"}]}, "malformed_request"),
        ({"base": 0, "segments": [{"index": 0}]}, "malformed_request"),
        ({"base": 7, "segments": [{"index": 0, "text": "x"}]}, "version_not_found"),
        ({"base": 0, "segments": [{"index": 9, "text": "x"}]}, "correction_invalid"),
        ({"base": 0, "segments": [{"index": 0, "text": "x"}, {"index": 0, "text": "y"}]}, "correction_invalid"),
        ({"base": 0, "segments": [{"index": 0, "words": [{"word": "x", "start": 2, "end": 1}]}]}, "correction_invalid"),
        (
            {"base": 0, "segments": [{"index": 0, "words": [{"word": "x", "start": 0, "end": 99}]}]},
            "correction_invalid",
        ),
        ({"base": 0, "segments": [{"index": 0, "words": [{"word": " ", "start": 0, "end": 1}]}]}, "correction_invalid"),
        (
            {"base": 0, "segments": [{"index": 0, "words": [{"word": "x" * 201, "start": 0, "end": 1}]}]},
            "correction_invalid",
        ),
    ],
)
async def test_what_does_not_fit_is_refused(front: Front, me: Caller, body: dict[str, object], code: str) -> None:
    """A correction that does not fit is refused whole, with the place that is wrong, and nothing is stored."""
    job = await me.submit(repr(body).encode())
    await front.complete(job, TEXT)
    assert (await me("POST", f"/jobs/{job}/versions", json=body)).code == code
    assert (await me("GET", f"/jobs/{job}/versions")).json()["latest"] == 0


async def test_hostile_text_stays_text(front: Front, me: Caller) -> None:
    """Markup is kept as words and escaped where a format has markup; controls and turned directions are cleaned out."""
    job = await me.submit(b"hostile")
    await front.complete(job, TEXT)
    text = "<script>alert(1)</script> a\u202eb\nc --> =SUM(A1)"
    await me("POST", f"/jobs/{job}/versions", json={"base": 0, "segments": [{"index": 0, "text": text}]})
    assert (await read(me, job, "latest"))["text"] == "<script>alert(1)</script> ab c --> =SUM(A1)"
    assert "&lt;script&gt;" in str(await read(me, job, "latest", "vtt"))
    assert "<" not in str(await read(me, job, "latest", "srt"))


async def test_versions_are_listed_and_go_with_the_job(front: Front, me: Caller) -> None:
    """The list has all, a version says who corrected what, and erasing the job leaves none."""
    job = await corrected(front, me, b"listed")
    listed = (await me("GET", f"/jobs/{job}/versions")).json()
    assert ([one["version"] for one in listed["versions"]], listed["latest"]) == ([0, 1], 1)
    seen = (await me("GET", f"/jobs/{job}/versions/1")).json()
    assert (seen["by"], seen["base"], seen["corrected"]) == (me.key_id, 0, 1)
    assert (await me("GET", f"/jobs/{job}/versions/2")).code == "version_not_found"
    assert (await me("GET", f"/jobs/{job}/result", params={"version": "new"})).code == "version_not_found"
    tenant = await front.tenant_of(job)
    await me("DELETE", f"/jobs/{job}")
    assert (await me("GET", f"/jobs/{job}/versions")).code == "job_erased"
    assert await front.stored(tenant) == [objects.outcome(tenant, job)]


async def test_who_may_correct(front: Front, me: Caller) -> None:
    """A foreign job is no job; a key that may only read may not correct; a job without a transcript has no versions."""
    job, running = await corrected(front, me, b"whose"), await me.submit(b"still runs")
    stranger = await front.nobody.sign_up()
    body = {"base": 1, "segments": [{"index": 0, "text": "x"}]}
    for path in (f"/jobs/{job}/versions", f"/jobs/{new_job_id()}/versions"):
        assert (await stranger("POST", path, json=body)).code == "job_not_found"
        assert (await stranger("GET", path)).code == "job_not_found"
    reader = (await me("POST", "/keys", json={"scopes": ["read"]})).json()["api_key"]
    reads = Caller(me.session, me.base, reader)
    assert (await reads("POST", f"/jobs/{job}/versions", json=body)).code == "scope_missing"
    assert (await reads("GET", f"/jobs/{job}/versions")).status == 200
    assert (await me("POST", f"/jobs/{running}/versions", json=body)).code == "job_not_finished"
