"""Live speech on the page: from a microphone, from another tab, and over the death of a server."""

import asyncio
import json

import aiohttp

from infra.stack import Stack
from tests.media import encode
from tests.page.conftest import WAIT, Visitor
from tests.speech import talk


async def test_speech_becomes_a_job_with_its_recording(visitor: Visitor) -> None:
    """The microphone is heard live, and when that is finished the session is a job with a waveform to play."""
    page = visitor.page
    await visitor.sign_up()
    await page.click("nav a:text-is('Live')")
    assert await visitor.accessible() == []
    await page.click(".live .main")
    await page.locator(".interim:not(:empty), .finals p").first.wait_for()
    await page.click(".stop")
    await page.click(".notice.good .button")
    await page.wait_for_selector(".segment .w")
    await visitor.until("document.querySelector('video').readyState > 1")
    # Of a session that changed engines it comes later: one that stood still past its lease is enough.
    await visitor.until("document.querySelector('.wave').dataset.peaks !== undefined")
    async with asyncio.timeout(WAIT / 1000):
        while not await page.evaluate("document.querySelector('.wave').dataset.peaks > 0"):
            await page.reload()
            await visitor.until("document.querySelector('.wave')?.dataset.peaks !== undefined")


async def test_live_speech_survives_a_server_that_dies(visitor: Visitor, stack: Stack) -> None:
    """Whoever speaks while the server is killed is heard on by the next one, in the same session and job."""
    page = visitor.page
    key = await visitor.sign_up()
    await page.click("nav a:text-is('Live')")
    await page.click(".live .main")
    await page.locator(".interim:not(:empty), .finals p").first.wait_for()
    process = stack.process("ingest")
    run = process.runs
    process.kill()
    await process.wait_run(run + 1)
    said = await page.locator(".spoken").text_content()
    await visitor.until(f"document.querySelector('.spoken').textContent !== {json.dumps(said)}")
    await page.click(".stop")
    await page.click(".notice.good .button")
    await page.wait_for_selector(".segment .w")
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stack.http_url}/jobs", headers={"x-api-key": key}) as answer,
    ):
        assert [job["state"] for job in (await answer.json())["jobs"]] == ["completed"]


async def test_the_sound_of_another_tab_is_heard(visitor: Visitor) -> None:
    """A shared tab is heard while it plays and not while it is paused; when it is closed the session becomes a job."""
    await visitor.submit(await visitor.sign_up(), encode(talk(20).samples, "wav"), name="lecture.wav")
    lecture = await visitor.another()
    page = visitor.page
    await lecture.evaluate("document.querySelector('video').loop = true")  # for as long as it takes
    await lecture.click(".w")
    await page.goto(f"{visitor.home}/#/live")
    await page.click(".live button:has-text('tab')")
    await visitor.until("document.querySelector('meter').value > 0.3")
    await page.locator(".interim:not(:empty), .finals p").first.wait_for()
    await lecture.click(".playbar .main")
    await visitor.until("document.querySelector('meter').value === 0")
    await lecture.close()
    await page.click(".notice.good .button")
    await page.wait_for_selector(".segment .w")
