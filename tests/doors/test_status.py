"""What the operator sees of the machine, and what a key says of itself."""

import asyncio
import json
import os
import sys

from typer.testing import CliRunner

from services.contracts import subjects
from services.contracts.auth import Scope
from services.contracts.events import EngineCard
from services.contracts.ids import new_job_id
from services.contracts.live import LiveCard
from services.keys.admin import commands
from tests.doors.caller import Caller, Front, form


async def operator(front: Front) -> Caller:
    """Somebody with the operator's scope."""
    env = front.stack.wiring.service_environment("keys", "keys")
    made = await asyncio.to_thread(CliRunner().invoke, commands, ["create", "--username", "crew", "--admin"], env=env)
    assert made.exit_code == 0, made.output
    key = made.stdout.splitlines()[0].split("\t")[1]
    return Caller(front.nobody.session, front.nobody.base, key)


async def test_the_operator_sees_the_machine(front: Front, me: Caller) -> None:
    """Queues by lane, the engines, live room, throughput and failures; nobody's ids or names."""
    admin = await operator(front)
    # Neither rate nor models: this ingest is asked by other tests too.
    card = EngineCard(
        id="e1", device="cpu", engine="whisper", slots=2, busy=1, live=LiveCard(capacity=2, sessions=1, lag=0.5)
    )
    job, broken = await me.submit(b"queued", name="secret-name.wav"), await me.submit(b"broken")
    await front.fail(broken, "not_audio", "This is text.")
    async with asyncio.timeout(60):
        while True:
            # An engine speaks again and again: what is said once is gone after a while.
            await front.bus.kv(subjects.ENGINES).put("e1", card.encode())
            seen = await admin("GET", "/status")
            status = seen.json()
            counted = {one["code"] for one in status["failures"]}
            well = status["service"]["checks"] == {"bus": "ok", "store": "ok"}
            if status["engines"] and "not_audio" in counted and status["lanes"][1]["units"] and well:
                break
            await asyncio.sleep(0.1)
    await front.bus.kv(subjects.ENGINES).delete("e1")
    [engine] = status["engines"]
    assert (engine["device"], engine["busy"], engine["rate"], engine["models"]) == ("cpu", 1, None, [])
    assert status["live"] == {"capacity": 2, "sessions": 1, "lag": 0.5}
    assert [lane["lane"] for lane in status["lanes"]] == ["live", "interactive", "batch"]
    assert len(status["throughput"]["audio"]) == 90
    assert sum(status["throughput"]["failed"]) >= 1
    for told in (job, broken, "secret-name", await front.tenant_of(job)):
        assert told not in seen.body.decode()


async def test_only_the_operator_sees_it(front: Front, me: Caller) -> None:
    """A key of a sign-up has not the scope."""
    assert (await me("GET", "/status")).code == "scope_missing"
    assert (await front.nobody("GET", "/status")).code == "no_key"


async def test_a_key_says_what_it_may_do(front: Front, me: Caller) -> None:
    """Whose it is and its scopes, and nothing secret."""
    seen = (await me("GET", "/me")).json()
    assert (seen["username"], seen["key_id"], seen["deprecated"]) == ("somebody", me.key_id, False)
    assert Scope.READ in seen["scopes"]
    assert Scope.ADMIN not in seen["scopes"]
    assert (await front.nobody("GET", "/me")).code == "no_key"


async def test_jobs_have_their_names(front: Front, me: Caller) -> None:
    """A list and a look tell the file name, without what turns the direction of writing; an erased job has none."""
    job = await me.submit(b"named", name="a\u202eb/../tal\x07k.wav")
    assert (await me("GET", f"/jobs/{job}")).json()["name"] == "talk.wav"
    assert [one["name"] for one in (await me("GET", "/jobs")).json()["jobs"]] == ["talk.wav"]
    again = (await me("POST", "/jobs", json={"source": job, "beam_size": 1})).json()["job_id"]
    seen = (await me("GET", f"/jobs/{again}")).json()
    assert (seen["name"], seen["source_of"]) == ("talk.wav", job)
    await front.complete(job)
    await me("DELETE", f"/jobs/{job}")
    assert (await me("GET", f"/jobs/{job}")).json()["name"] is None


async def test_why_a_job_is_not_done(front: Front, me: Caller) -> None:
    """`desifre why` finds a job whoever's it is, with no more rights than ingest's, and says what it waits for."""
    job = (await me("POST", "/jobs", data=form(name="salary.wav"))).json()["job_id"]
    code, printed = await desifre(front, "why", job)
    assert code == 0, printed
    assert f"{job} is accepted." in printed
    assert "No transcriber is there" in printed
    assert "Place " in printed
    assert "salary" not in printed
    await front.fail(job, "not_audio", "No samples.")
    code, printed = await desifre(front, "why", job)
    assert (code, "not_audio: No samples." in printed) == (0, True)
    code, printed = await desifre(front, "why", new_job_id())
    assert (code, "no record" in printed) == (1, True)


async def test_the_operator_ends_anybodys_job(front: Front, me: Caller) -> None:
    """`desifre end` cancels a job, and its data goes only when that is asked for."""
    job = await me.submit(b"unwanted")
    assert await desifre(front, "end", job) == (0, f"{job} is cancelled.\n")
    assert (await me("GET", f"/jobs/{job}")).json()["state"] == "cancelled"
    code, printed = await desifre(front, "end", job)
    assert (code, "--erase" in printed) == (1, True)
    assert (await me("GET", f"/jobs/{job}/audio")).status == 200
    assert await desifre(front, "end", "--erase", job) == (0, f"{job} is erased.\n")
    assert (await me("GET", f"/jobs/{job}/audio")).code == "job_erased"


async def test_the_operator_sees_who_uses_what(front: Front, me: Caller) -> None:
    """`desifre keys usage` has a line for each tenant with what it uses of its quota."""
    job = await me.submit(b"seven b")
    code, printed = await desifre(front, "keys", "usage")
    assert code == 0, printed
    lines = dict(line.split("\t", 1) for line in printed.splitlines())
    assert lines["TENANT"] == "USER\tTODAY\tUNFINISHED\tSTORED"
    assert lines[await front.tenant_of(job)] == "somebody\t0.00/24 h\t1/100 jobs\t7/21474836480 bytes"


async def test_a_request_leads_to_its_job_in_the_log(front: Front, me: Caller) -> None:
    """The request id that a client has leads to the job that it became, and to the code of a refusal."""
    admitted = await me("POST", "/jobs", data=b"logged")
    refused = await me("POST", "/jobs", data=b"")
    admission, refusal = admitted.headers["x-request-id"], refused.headers["x-request-id"]
    log = front.stack.home.logs / "ingest.log"
    async with asyncio.timeout(60):
        while True:
            lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
            of = {(line.get("request_id"), line["event"]): line for line in lines}
            if (refusal, "request") in of:
                break
            await asyncio.sleep(0.05)
    assert of[admission, "a job was admitted"]["job"] == admitted.json()["job_id"]
    assert of[refusal, "request"]["code"] == "empty_file"
    assert "code" not in of[admission, "request"]


async def desifre(front: Front, *arguments: str) -> tuple[int, str]:
    """Exit code and print of the operator's command line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "services.cli",
        *arguments,
        env=os.environ | {"DESIFRE_HOME": str(front.stack.home.root)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()
