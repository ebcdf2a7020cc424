"""The page in a real browser: one service with the digest engine and one Chromium for all tests of it."""

import asyncio
import io
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from axe_playwright_python import __file__ as axe_package
from playwright.async_api import Browser, BrowserContext, Dialog, Page, async_playwright

from infra.stack import Stack
from tests.speech import sample_path

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    # Fewer processes: starting them takes a fifth of the time of these tests.
    *("--in-process-gpu", "--disable-software-rasterizer", "--renderer-process-limit=2"),
    *("--use-fake-device-for-media-stream", "--auto-select-tab-capture-source-by-title=Transcript"),
)
WAIT = 60_000
"""Milliseconds after which a condition on the page has failed."""


AXE = (Path(axe_package).parent / "axe.min.js").read_text()


def chromium() -> str | None:
    """The system's browser."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="package")
async def browser(stack: Stack) -> AsyncIterator[Browser]:
    """Chromium, with a microphone in which somebody speaks; asked what to share, it shares the tab of a transcript."""
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this machine: the page was NOT tested (apt-get install chromium)")
    speech = f"--use-file-for-fake-audio-capture={sample_path('en', 'counting')}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=[*ARGUMENTS, speech], ignore_default_args=["--mute-audio"]
        )
        yield browser
        await browser.close()


async def admitted(session: aiohttp.ClientSession, data: bytes, **options: str) -> str:
    """Send a recording until it is taken, however long keys or the bus stand still; the job."""
    async with asyncio.timeout(WAIT / 1000):
        while True:
            async with session.post("/jobs", params=options, data=io.BytesIO(data)) as answer:
                if answer.status != 503:
                    assert answer.status == 202, await answer.text()
                    return str((await answer.json())["job_id"])
            await asyncio.sleep(0.2)


class Visitor:
    """Somebody with a browser of their own; `errors` is what its console said was wrong."""

    def __init__(self, context: BrowserContext, page: Page, home: str) -> None:
        self.context = context
        self.home = home
        self.errors: list[str] = []
        self.page = self._watched(page)

    def _watched(self, page: Page) -> Page:
        page.set_default_timeout(WAIT)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if "Content Security" in said.text else None)
        page.on("dialog", self._alarm)
        return page

    async def another(self) -> Page:
        """Go on in another tab, with the same key, which begins where this one is; this one."""
        async with self.context.expect_page() as opened:
            await self.page.evaluate("() => void open(location.href)")
        before, self.page = self.page, self._watched(await opened.value)
        return before

    async def _alarm(self, dialog: Dialog) -> None:
        if dialog.type != "beforeunload":
            self.errors.append("a dialog was opened")
        await dialog.accept()

    async def sign_up(self, name: str = "editor") -> str:
        """Get a key by the page; the files are shown then."""
        await self.page.goto(self.home)
        await self.page.fill("#name", name)
        shown = self.page.locator("#shown")
        while not await shown.count():  # keys may stand still for so long that the page says so
            await self.page.click("form .wide")
            await shown.or_(self.page.locator(".notice")).first.wait_for()
        key = await shown.text_content()
        assert key is not None
        await self.page.click(".card > .main")
        await self.page.wait_for_selector(".drop")
        return key

    async def send(self, path: Path | str) -> None:
        """Choose a recording and wait for its words."""
        await self.page.set_input_files("#choose", path)
        await self.page.click("[data-state=completed] .button")
        await self.page.wait_for_selector(".segment .w")

    async def submit(self, key: str, data: bytes, **options: str) -> str:
        """Send a recording as a program would, look on until it is heard, and see its transcript; the job."""
        async with aiohttp.ClientSession(self.home, headers={"x-api-key": key}) as session:
            job = await admitted(session, data, **options)
        await self.page.goto(f"{self.home}/#/job/{job}")
        await self.page.wait_for_selector(".segment .w")
        return job

    async def until(self, expression: str) -> None:
        """Wait for a condition of the page. Playwright's own way evaluates in the page, which its policy forbids."""
        async with asyncio.timeout(WAIT / 1000):
            while not await self.page.evaluate(expression):
                await asyncio.sleep(0.05)

    async def accessible(self) -> list[tuple[str, str]]:
        """What axe finds that is serious, over the debugger: the page's own policy would not let it in."""
        session = await self.context.new_cdp_session(self.page)
        await session.send("Runtime.evaluate", {"expression": AXE})
        found: list[dict[str, Any]] = await self.page.evaluate("async () => (await axe.run()).violations")
        return [(one["id"], str(one["nodes"])) for one in found if one["impact"] in ("serious", "critical")]


@pytest.fixture
async def visitor(browser: Browser, stack: Stack) -> AsyncIterator[Visitor]:
    """A visitor who reads English."""
    context = await browser.new_context(
        locale="en-GB", viewport={"width": 1200, "height": 850}, accept_downloads=True, permissions=["microphone"]
    )
    yield (visitor := Visitor(context, await context.new_page(), stack.http_url))
    await context.close()
    assert visitor.errors == []
