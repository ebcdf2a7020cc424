"""What people do with the page, in a real browser against the whole service."""

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser
from typer.testing import CliRunner

from infra.stack import Stack
from services.keys.admin import commands
from tests.page.conftest import Visitor, admitted
from tests.speech import sample_path

SPEECH = sample_path("en", "counting")
HOSTILE = [
    payload.format(n=n)
    for n, payload in enumerate(
        [
            "<script>alert({n})</script>",
            "<img src=x onerror=alert({n})>",
            "<svg/onload=alert({n})>",
            "\"><iframe srcdoc='<script>parent.alert({n})</script>'>",
            "javascript:alert({n})",
            "{{{{constructor.constructor('alert({n})')()}}}}",
            "'-alert({n})-'",
            "</textarea><script>alert({n})</script>",
            "<a href=javascript:alert({n})>x</a>",
            "\u202e<b onmouseover=alert({n})>\u2066",
        ]
        * 5
    )
]


def admin_key(stack: Stack) -> str:
    """A key with the operator's scope."""
    env = stack.wiring.service_environment("keys", "keys")
    made = CliRunner().invoke(commands, ["create", "--username", "crew", "--admin"], env=env)
    assert made.exit_code == 0, made.output
    return made.stdout.splitlines()[0].split("\t")[1]


async def test_from_a_key_to_a_corrected_transcript(visitor: Visitor) -> None:
    """Key, upload, words, click, play, correct, download, and share: an editor's way, and axe finds nothing serious."""
    page = visitor.page
    await page.goto(visitor.home)
    await page.wait_for_selector("#name")
    assert await visitor.accessible() == []
    await visitor.sign_up()
    await visitor.send(SPEECH)
    assert await visitor.accessible() == []

    last = page.locator(".w").last
    await visitor.until("document.querySelector('video').readyState > 1")
    await page.evaluate("document.querySelector('video').loop = true")  # it goes on, however late one looks
    await last.click()
    await visitor.until("document.querySelector('video').currentTime > 0.5")
    await page.wait_for_selector(".w.now")

    await page.locator(".segment").first.hover()
    await page.locator(".edit").first.click()
    await page.fill("textarea", "Put right by hand")
    await page.press("textarea", "Enter")
    await page.click(".drafts .main")
    await page.wait_for_selector(".w.corrected")
    for form in ("text", "srt", "vtt", "tsv", "json"):
        async with page.expect_download() as download:
            await page.click(f"[data-format={form}]")
        kept = Path(await (await download.value).path()).read_text()
        assert "right" in kept, form
    await page.reload()
    await page.wait_for_selector(".w.corrected")

    await page.click(".head .row button")
    await page.click("dialog form .main")
    link = await page.text_content("dialog .copy code")
    assert link is not None
    assert await visitor.accessible() == []
    await page.goto(link)
    await page.wait_for_selector(".w.corrected")
    assert await page.locator(".edit").count() == 0
    assert await visitor.accessible() == []


async def test_a_newcomer_brings_a_recording_and_reads_it(visitor: Visitor) -> None:
    """Without a key it takes choosing a file and opening it; the key that was made on the way is shown, and works."""
    page = visitor.page
    await page.goto(visitor.home)
    await page.set_input_files("#try", SPEECH)
    await page.wait_for_selector("[data-state=completed]")
    assert await visitor.accessible() == []
    key = await page.text_content("#shown")
    await page.click("[data-state=completed] .button")
    await page.wait_for_selector(".segment .w")
    await page.goto(f"{visitor.home}/#/files")
    await page.wait_for_selector("[data-state=completed]")
    assert await page.locator("#shown").count() == 0, "a key is shown once"
    async with (
        aiohttp.ClientSession(visitor.home, headers={"x-api-key": key or ""}) as session,
        session.get("/jobs") as answer,
    ):
        assert len((await answer.json())["jobs"]) == 1


async def test_fifty_hostile_names_and_texts_run_nothing(visitor: Visitor, stack: Stack) -> None:
    """Scripts in names of users, names of files and in words are shown as they are, and none runs."""
    page = visitor.page
    key = await visitor.sign_up(HOSTILE[0][:60])
    await visitor.send(SPEECH)
    job = page.url.rsplit("/", 1)[1]
    async with aiohttp.ClientSession(stack.http_url, headers={"x-api-key": key}) as session:
        for n, name in enumerate(HOSTILE):
            await admitted(session, f"no sound {n}".encode(), name=name)
        body = {"base": 0, "segments": [{"index": 0, "text": " ".join(HOSTILE)}]}
        async with session.post(f"/jobs/{job}/versions", json=body) as answer:
            assert answer.status == 201, await answer.text()
    await page.reload()
    await page.wait_for_selector(".w.corrected")
    assert "<script>alert(0)</script>" in (await page.text_content(".segment") or "")
    await page.goto(f"{visitor.home}/#/begin")
    await page.wait_for_selector(".card .row")
    await page.goto(f"{visitor.home}/#/files")
    await page.get_by_text(HOSTILE[41]).wait_for()  # without a slash: of the others the name's last part is kept
    await page.click("main .center button")
    await page.get_by_text(HOSTILE[1], exact=True).wait_for()
    assert await page.locator("main script, main iframe, main img, main b").count() == 0


@pytest.mark.parametrize(("locale", "title", "other"), [("tr-TR", "Dosya", "Türkçe"), ("en-GB", "File", "English")])
async def test_the_language_is_the_browsers_until_it_is_chosen(
    browser: Browser, stack: Stack, locale: str, title: str, other: str
) -> None:
    """The page speaks the browser's language; another is a click away and is kept over a reload."""
    context = await browser.new_context(locale=locale, viewport={"width": 390, "height": 800})
    visitor = Visitor(context, page := await context.new_page(), stack.http_url)
    await visitor.sign_up()
    assert (await page.text_content("h1") or "").startswith(title)
    assert await page.get_attribute("html", "lang") == locale[:2]
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than a phone"
    await page.click(".tools button")
    assert await page.get_attribute("html", "lang") != locale[:2]
    assert await page.text_content(".tools button") == other
    await page.reload()
    await page.wait_for_selector(".drop")
    assert await page.text_content(".tools button") == other
    await context.close()
    assert visitor.errors == []


async def test_an_upload_waits_for_the_connection(visitor: Visitor) -> None:
    """Offline nothing is lost: the file waits, and is sent when the connection is back."""
    page = visitor.page
    await visitor.sign_up()
    await visitor.context.set_offline(True)
    await page.set_input_files("#choose", SPEECH)
    await page.get_by_text(re.compile("Waiting for the connection")).wait_for()
    await visitor.context.set_offline(False)
    await page.wait_for_selector("[data-state=completed]")
    await page.reload()
    await page.wait_for_selector("[data-state=completed]")


async def test_the_operator_sees_the_machine(visitor: Visitor, stack: Stack) -> None:
    """A key with the scope admin shows Status, with its plots; one without it does not."""
    page = visitor.page
    await visitor.sign_up()
    assert await page.locator("nav a").all_text_contents() == ["Files", "Live"]
    key = await asyncio.to_thread(admin_key, stack)
    await page.goto(f"{visitor.home}/#/begin")
    await page.click(".card .row button")
    await page.fill("#key", key)
    await page.click(".pair button")
    await page.click("nav a:text-is('Status')")
    await page.wait_for_selector(".grid svg.plot")
    assert await page.locator(".grid .card").count() == 6
    assert await visitor.accessible() == []
