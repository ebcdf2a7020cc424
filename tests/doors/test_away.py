"""Parts of the service that are away: told as such, with a time to come back, and nothing is half done."""

import asyncio
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from infra.stack import Stack
from tests.doors.caller import Caller


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A front of one's own to take apart."""
    async with Stack(tmp_path_factory.mktemp("away"), services=["nats", "s3", "keys", "ingest"]) as stack:
        yield stack


async def test_a_stop_answers_whoever_waits(stack: Stack) -> None:
    """A caller that waits for its words while the service is stopped is told where to look for them later."""
    async with aiohttp.ClientSession() as session:
        me = await Caller(session, stack.http_url).sign_up()
        waiting = asyncio.create_task(me("POST", "/transcribe", data=b"sound"), name="waiting")
        async with asyncio.timeout(60):
            while not (await me("GET", "/jobs")).json()["jobs"]:
                await asyncio.sleep(0.2)
        ingest = stack.process("ingest")
        run = ingest.runs
        ingest.kill(signal.SIGTERM)  # as `stop` does, which has less patience with a busy machine
        reply = await waiting
        assert reply.status == 202
        assert reply.headers["Location"] == f"/jobs/{reply.json()['job_id']}"
        assert await ingest.wait_exit(run) == 0
        await ingest.wait_run(run + 1)


async def test_what_is_away_is_said(stack: Stack) -> None:
    """Without the store, keys or the bus a request is 503 with Retry-After and leaves nothing behind."""
    async with aiohttp.ClientSession() as session:
        nobody = Caller(session, stack.http_url)
        me = await nobody.sign_up()
        usage = (await me("GET", "/usage")).json()

        await stack.process("s3").stop()
        reply = await me("POST", "/jobs", data=b"sound")
        assert (reply.status, reply.code) == (503, "unavailable")
        assert int(reply.headers["Retry-After"]) > 0
        assert (await nobody("GET", "/readyz")).json()["checks"]["store"] != "ok"
        assert (await me("GET", "/usage")).json() == usage

        await stack.process("keys").stop()
        stranger = Caller(session, stack.http_url, "tk_" + "a" * 32)
        assert (await stranger("GET", "/jobs")).code == "unavailable"
        assert (await nobody("POST", "/generate-key", params={"username": "x"})).code == "unavailable"
        assert (await me("GET", "/v1/models")).status == 200  # its key was verified a moment ago

        await stack.process("nats").stop()
        reply = await me("GET", "/jobs/job_01M83PRRQKZGF5RJXYNWRWV2GN")
        assert (reply.status, reply.code) == (503, "unavailable")
        ready = await nobody("GET", "/readyz")
        assert (ready.status, ready.json()["checks"]["bus"] != "ok") == (503, True)
        assert (await nobody("GET", "/livez")).status == 200
