"""A transcript that several people have in hand: two editors at once, and readers whose link is taken back."""

from tests.media import encode
from tests.page.conftest import Visitor
from tests.speech import sample_path, talk


async def test_two_editors_lose_nothing(visitor: Visitor) -> None:
    """Who saves second is told, sees the first one's words beside the own, and keeps both by saving again."""
    await visitor.submit(await visitor.sign_up(), encode(talk(40).samples, "wav"), name="interview.wav")
    first = await visitor.another()
    second = visitor.page
    await second.wait_for_selector(".segment .w")
    for page, text, segments in ((second, "of the second", (0,)), (first, "of the first", (0, 1))):
        for segment in segments:
            await page.locator(".segment").nth(segment).locator(".w").dblclick()
            await page.fill("textarea", text)
            await page.press("textarea", "Enter")
    await second.reload()
    await second.get_by_text("of the second").wait_for()
    await first.click(".drafts .main")
    await first.wait_for_selector(".w.corrected")
    await second.click(".drafts .main")
    await second.get_by_text("Somebody else saved").wait_for()
    assert await second.locator(".segment").nth(0).locator(".theirs span").text_content() == "of the first"
    assert await second.locator(".segment.draft p:first-of-type").all_text_contents() == ["of the second"]
    assert "of the first" in (await second.locator(".segment").nth(1).text_content() or "")
    await second.keyboard.press("Control+Enter")
    await second.wait_for_selector(".drafts", state="hidden")
    said = [(await second.locator(".segment .said").nth(n).text_content() or "") for n in range(2)]
    assert ["of the second" in said[0], "of the first" in said[1]] == [True, True]
    await visitor.until("document.querySelectorAll('select[aria-label=Version] option').length === 3")


async def test_a_link_that_was_taken_back_shows_nothing(visitor: Visitor) -> None:
    """Whoever has a shared transcript open sees it go when it is taken back, and finds nothing there again."""
    await visitor.sign_up()
    await visitor.send(sample_path("en", "counting"))
    owner = visitor.page
    await owner.click(".head .row button")
    await owner.click("dialog form .main")
    link = await owner.text_content("dialog .copy code")
    assert link is not None
    await visitor.another()
    reader = visitor.page
    await reader.goto(link)
    await reader.wait_for_selector(".segment .w")
    await owner.click(".shares button")
    await owner.wait_for_selector(".shares li", state="detached")
    await reader.click("[data-format=srt]")
    await reader.locator(".notice").wait_for()
    assert await reader.locator(".w, audio, video").count() == 0
    await reader.reload()
    await reader.locator(".notice").wait_for()
    assert await reader.locator(".w, audio, video").count() == 0
