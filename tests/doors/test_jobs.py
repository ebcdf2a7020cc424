"""Jobs over HTTP: seen, waited for, read in every format, cancelled, erased; and /transcribe around them."""

import asyncio
import itertools
import json

import pytest

from services.contracts import subjects
from services.contracts.formats import Format, render
from services.contracts.ids import new_job_id
from services.contracts.jobs import State
from services.contracts.transcript import Transcript
from tests.doors.caller import Caller, Front, form


async def test_a_job_is_seen_by_its_owner(me: Caller) -> None:
    """A job shows its state, its place, its progress, its timings and where to go on."""
    first, second = await me.submit(b"a" * 16_000), await me.submit(b"b" * 16_000)
    view = (await me("GET", f"/jobs/{second}")).json()
    assert (view["job_id"], view["state"], view["lane"], view["door"]) == (second, "accepted", "interactive", "http")
    assert (view["progress"], view["size"], view["failure"]) == (0.0, 16_000, None)
    assert view["timings"]["accepted"] > 0
    assert view["timings"]["started"] is None
    assert view["links"]["self"] == f"/jobs/{second}"
    assert view["queue"]["expected_start"] is None  # no engine has measured itself
    # The other tenants of this session stand before it too, each with no more jobs than it has itself.
    async with asyncio.timeout(30):
        while (await place(me, second))["position"] <= (await place(me, first))["position"]:
            await asyncio.sleep(0.25)
    assert (await place(me, second))["ahead"] >= 1.0


async def place(caller: Caller, job: str) -> dict[str, float]:
    """Where a job stands."""
    found: dict[str, float] = (await caller("GET", f"/jobs/{job}")).json()["queue"]
    return found


@pytest.mark.parametrize("path", ["", "/result", "/audio"])
async def test_anothers_job_is_no_job(front: Front, me: Caller, path: str) -> None:
    """A foreign job, an unknown one and a senseless id are answered alike."""
    theirs = await (await front.nobody.sign_up()).submit()
    answers = [await me("GET", f"/jobs/{job}{path}") for job in (theirs, new_job_id(), "no-job")]
    assert {(answer.status, answer.code) for answer in answers} == {(404, "job_not_found")}
    assert (await me("DELETE", f"/jobs/{theirs}")).code == "job_not_found"


async def test_waiting_ends_when_something_changes(front: Front, me: Caller) -> None:
    """`?wait=` answers as soon as the job changes, long before its time is up."""
    job = await me.submit(b"waited for")
    waiting = asyncio.create_task(me("GET", f"/jobs/{job}", params={"wait": "30"}), name="waiting")
    await asyncio.wait([waiting], timeout=0.5)
    assert not waiting.done()
    await front.complete(job)
    async with asyncio.timeout(20):
        assert (await waiting).json()["state"] == "completed"


async def test_waiting_ends_when_its_time_is_up(me: Caller) -> None:
    """`?wait=` answers with the job as it stands when nothing changes."""
    job = await me.submit(b"stands still")
    assert (await me("GET", f"/jobs/{job}", params={"wait": "0.2"})).json()["state"] == "accepted"
    assert (await me("GET", f"/jobs/{job}", params={"wait": "soon"})).code == "malformed_request"


async def test_a_job_is_never_seen_going_backwards(front: Front, me: Caller) -> None:
    """A hint that comes late, of a state that was read past already, ends no waiting and is not shown."""
    job = await me.submit(b"goes forwards")
    tenant = await front.tenant_of(job)
    late = await front.records.get(tenant, job)
    assert late is not None
    await front.records.change(tenant, job, lambda record: record.model_copy(update={"state": State.RUNNING}))
    waiting = asyncio.create_task(me("GET", f"/jobs/{job}", params={"wait": "1"}), name="waiting")
    subject = subjects.state(tenant, job)
    while not waiting.done():
        headers = {"Nats-Subject": subject, "Nats-Sequence": "1"}
        await front.bus.nc.publish(f"{subjects.RELAY}.{subject}", late.encode(), headers=headers)
        await asyncio.wait([waiting], timeout=0.05)
    assert (await waiting).json()["state"] == "running"


async def test_jobs_are_paged_newest_first(front: Front, me: Caller) -> None:
    """A list goes on where `next` says, holds every job once, and takes states as a filter."""
    jobs = [await me.submit(f"job {n}".encode()) for n in range(5)]
    await front.complete(jobs[2])
    seen, before = [], None
    while True:
        page = (await me("GET", "/jobs", params={"limit": "2"} | ({"before": before} if before else {}))).json()
        seen += [job["job_id"] for job in page["jobs"]]
        before = page["next"]
        if before is None:
            break
    assert seen == jobs[::-1]
    done = (await me("GET", "/jobs", params={"state": "completed,failed"})).json()["jobs"]
    assert [job["job_id"] for job in done] == [jobs[2]]
    assert (await me("GET", "/jobs", params={"state": "asleep"})).code == "malformed_request"


@pytest.mark.parametrize("form_", list(Format))
async def test_a_result_in_every_format(front: Front, me: Caller, form_: Format) -> None:
    """Any format can be had at any time, and is what the renderer makes of the stored transcript."""
    job = await me.submit(f"for {form_}".encode())
    found: Transcript = await front.complete(job, "the quick brown fox jumps over")
    reply = await me("GET", f"/jobs/{job}/result", params={"format": form_})
    assert (reply.status, reply.body) == (200, render(found, form_))
    assert reply.headers["Content-Type"].endswith("charset=utf-8")


async def test_subtitles_follow_the_job_and_the_request(front: Front, me: Caller) -> None:
    """Line rules come from the job's options, and from the request where it has its own."""
    job = await me.submit(b"subtitled", max_line_width="12")
    await front.complete(job, "the quick brown fox jumps over")
    asked = await me("GET", f"/jobs/{job}/result", params={"format": "srt"})
    assert asked.body.decode().splitlines()[2:5] == ["the quick", "brown fox", "jumps over"]
    own = await me("GET", f"/jobs/{job}/result", params={"format": "srt", "max_line_width": "60"})
    assert own.body.decode().splitlines()[2] == "the quick brown fox jumps over"


async def test_results_that_are_not_there(front: Front, me: Caller) -> None:
    """Unfinished, failed, cancelled and erased jobs each say so; a format that is none does too."""
    unfinished, failed, cancelled, erased = [await me.submit(f"r{n}".encode()) for n in range(4)]
    await front.fail(failed, "not_audio", "This is text.")
    await front.complete(erased)
    assert (await me("DELETE", f"/jobs/{cancelled}")).json()["state"] == "cancelled"
    assert (await me("DELETE", f"/jobs/{erased}")).json()["state"] == "erased"
    answers = [await me("GET", f"/jobs/{job}/result") for job in (unfinished, failed, cancelled, erased)]
    assert [(answer.status, answer.code) for answer in answers] == [
        (409, "job_not_finished"),
        (409, "job_failed"),
        (409, "job_cancelled"),
        (410, "job_erased"),
    ]
    assert answers[1].json()["failure"]["code"] == "not_audio"
    assert (await me("GET", f"/jobs/{erased}/audio")).code == "job_erased"
    assert (await me("GET", f"/jobs/{erased}/result", params={"format": "docx"})).code == "format_unknown"


async def test_transcribe_answers_with_the_words(front: Front, me: Caller) -> None:
    """POST /transcribe waits for the end and answers as the old service did, with ours beside it."""
    asked = asyncio.create_task(me("POST", "/transcribe", data=form(model_type="base")), name="asked")
    job = await front.newest(me)
    await front.complete(job, "merhaba dünya")
    reply = await asked
    body = reply.json()
    assert reply.status == 200
    assert (body["text"], body["model"], body["user"]) == ("merhaba dünya", "base", "somebody")
    assert body["queue_wait_time"] >= 0
    assert body["processing_time"] >= 0
    assert body["words"][0] == {"word": " merhaba", "start": 0.0, "end": 0.8, "probability": 0.9}
    assert {"language", "duration", "segments", "coverage"} <= body.keys()
    assert body["job_id"] == job


async def test_transcribe_again_answers_at_once(front: Front, me: Caller) -> None:
    """The same recording with the same options an hour later is answered from what is stored."""
    job = await me.submit(b"known sound")
    await front.complete(job)
    reply = await me("POST", "/transcribe", data=b"known sound")
    assert (reply.status, reply.json()["job_id"]) == (200, job)


@pytest.mark.parametrize(
    ("params", "headers"),
    [({"async": "true"}, {}), ({}, {"Prefer": "respond-async"}), ({}, {"Prefer": "foo, wait=0"})],
)
async def test_transcribe_does_not_wait_when_told_so(
    me: Caller, params: dict[str, str], headers: dict[str, str]
) -> None:
    """A caller that would rather poll gets 202 and where to look."""
    reply = await me("POST", "/transcribe", params=params, headers=headers, data=json.dumps([params, headers]).encode())
    assert reply.status == 202
    assert (await me("GET", reply.headers["Location"])).json()["job_id"] == reply.json()["job_id"]


async def test_transcribe_gives_up_waiting_but_not_the_job(me: Caller) -> None:
    """After the wait allowed the answer is 202; the job goes on."""
    reply = await me("POST", "/transcribe", headers={"Prefer": "wait=1"}, data=b"takes long")
    assert (reply.status, reply.json()["state"]) == (202, "accepted")


async def test_a_caller_that_hangs_up_does_not_lose_its_job(front: Front, me: Caller) -> None:
    """The job of a caller that hung up while waiting is done and can be read."""
    asked = asyncio.create_task(me("POST", "/transcribe", data=form(b"hung up")), name="asked")
    job = await front.newest(me)
    asked.cancel()
    await asyncio.wait([asked])
    await front.complete(job, "still here")
    assert (await me("GET", f"/jobs/{job}/result", params={"format": "text"})).body == b"still here\n"


async def test_transcribe_answers_the_code_of_the_failure(front: Front, me: Caller) -> None:
    """A recording that cannot be transcribed is answered with the failure's own code and status."""
    asked = asyncio.create_task(me("POST", "/transcribe", data=form(b"no sound")), name="asked")
    job = await front.newest(me)
    await front.fail(job, "no_audio_track", "Only pictures.")
    reply = await asked
    assert (reply.status, reply.code) == (422, "no_audio_track")
    assert reply.json()["job_id"] == job


async def test_a_cancelled_job_answers_whoever_waits(front: Front, me: Caller) -> None:
    """Cancelling a job ends the wait for it."""
    asked = asyncio.create_task(me("POST", "/transcribe", data=form(b"changed my mind")), name="asked")
    await me("DELETE", f"/jobs/{await front.newest(me)}")
    reply = await asked
    assert (reply.status, reply.code) == (409, "job_cancelled")


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/jobs/{job}/result?fmt=srt", "`fmt` (meant: `format`?). Known here: `format`, `max_line_width`"),
        ("GET", "/jobs?states=completed&LIMIT=3", "`LIMIT` (meant: `limit`?), `states` (meant: `state`?)"),
        ("GET", "/jobs/{job}?timeout=5", "`timeout`. Known here: `wait`."),
        ("DELETE", "/jobs/{job}?erase=true", "`erase`. Known here: none."),
        ("GET", "/ws?language=tr", "`language`. Known here: none."),
        ("POST", "/generate-key?user=me", "`user` (meant: `username`?)"),
    ],
)
async def test_a_parameter_that_does_nothing_is_told(me: Caller, method: str, path: str, told: str) -> None:
    """Who asks for what a route does not have is told so, with what there is; nothing is done."""
    job = await me.submit()
    answer = await me(method, path.format(job=job))
    assert (answer.status, answer.code) == (400, "parameter_unknown")
    assert told in answer.json()["detail"]
    assert (await me("GET", f"/jobs/{job}")).json()["state"] == "accepted"


async def test_of_many_unknown_names_a_few_are_told(me: Caller) -> None:
    """Each is compared with what there is, and a stranger may send a thousand."""
    names = "&".join("".join(letters) for letters in itertools.islice(itertools.permutations("username"), 1, 300))
    for path in ("/generate-key", "/jobs"):
        answer = await me("POST", f"{path}?{names}", data=b"RIFF")
        assert answer.status in (400, 422)
        assert answer.json()["detail"].count("`?)") <= 5
        assert " more" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/", "/livez", "/docs", "/v1/models"])
async def test_addresses_for_browsers_and_other_apis_take_any_parameter(me: Caller, path: str) -> None:
    """Links get tails on their way, and clients of other APIs send their own words: they are served all the same."""
    assert (await me("GET", f"{path}?utm_source=mail")).status == 200


async def test_a_stranger_learns_of_no_parameter(front: Front) -> None:
    """The key is looked at before the query."""
    assert (await front.nobody("GET", "/jobs?states=completed")).code == "no_key"
