"""The page without a mouse."""

import asyncio
from pathlib import Path

from playwright.async_api import FileChooser

from tests.page.conftest import Visitor
from tests.speech import sample_path

SHOWN = """() => {
  const here = document.activeElement, seen = here.id === "choose" ? here.nextElementSibling : here;
  const style = getComputedStyle(seen), box = seen.getBoundingClientRect();
  return style.outlineStyle !== "none" && style.outlineWidth !== "0px" && style.opacity !== "0" && box.width > 1
    && box.bottom > 0 && box.top < innerHeight;
}"""
"""Whether one sees where the focus is."""


async def to(visitor: Visitor, selector: str, key: str = "Tab", within: int = 14) -> None:
    """Go on by Tab until this has the focus, and see it at every step."""
    for _ in range(within):
        await visitor.page.keyboard.press(key)
        assert await visitor.page.evaluate(SHOWN), await visitor.page.evaluate("document.activeElement.outerHTML")
        if await visitor.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is not within {within} steps")


async def test_everything_is_done_without_a_mouse(visitor: Visitor) -> None:
    """Key, upload, transcript, play, correct and download by the keyboard alone; the focus is seen, and near."""
    page, keys = visitor.page, visitor.page.keyboard
    # From now on: who asks just before the key is pressed may be too late for it.
    choosers: asyncio.Queue[FileChooser] = asyncio.Queue()
    page.on("filechooser", choosers.put_nowait)
    await page.goto(visitor.home)
    await page.wait_for_selector("#name")
    await to(visitor, "#name", within=5)
    await keys.type("keyboardist")
    await keys.press("Enter")
    await page.wait_for_selector("#shown")
    await to(visitor, ".card > .main", within=4)
    await keys.press("Enter")
    await page.wait_for_selector(".drop")
    await to(visitor, "#choose", within=1)
    await keys.press("Enter")
    await (await choosers.get()).set_files(sample_path("en", "counting"))
    await page.wait_for_selector("[data-state=completed] .button")
    await to(visitor, ".job .button", within=4)
    await keys.press("Enter")
    await page.wait_for_selector(".segment .w")
    await visitor.until("document.querySelector('video').readyState > 1")
    await to(visitor, ".playbar .main")
    await keys.press("Space")
    await visitor.until("document.querySelector('video').currentTime > 0.2")
    await keys.press("Space")
    await visitor.until("document.querySelector('video').paused")
    await to(visitor, ".edit")
    await keys.press("Enter")
    await keys.press("Control+A")
    await keys.type("Put right without a mouse")
    await keys.press("Control+Enter")
    await page.wait_for_selector(".w.corrected")
    assert await page.evaluate("document.activeElement.matches('.segment .edit')"), "the place in the text was lost"
    await to(visitor, "[data-format=srt]", "Shift+Tab", within=6)
    async with page.expect_download() as download:
        await keys.press("Enter")
    assert "without a mouse" in Path(await (await download.value).path()).read_text()
