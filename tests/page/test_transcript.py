"""A transcript on the page: what is marked in it, who says what, and what becomes of it when others touch it, too."""

from tests.media import RATE, encode, silence, stereo
from tests.page.conftest import Visitor
from tests.speech import sample, sample_path, talk

SPEECH = sample_path("en", "counting")


async def test_what_is_missing_and_what_may_be_invented_is_seen_at_a_glance(visitor: Visitor) -> None:
    """Seconds that could not be heard have a place in the text and are heard by a click; doubtful words are marked."""
    page = visitor.page
    prompt = f"suspect fail@{20 * RATE}"
    await visitor.submit(await visitor.sign_up(), encode(talk(40).samples, "wav"), name="broken.wav", prompt=prompt)
    assert await page.locator(".gap.failed").count() == 1
    assert await page.locator(".segment.suspect .tag.warn").count() >= 2
    assert await page.locator(".step.suspect").text_content() != await page.locator(".step.failed").text_content()
    await visitor.until("document.querySelector('video').readyState > 1")
    await page.click(".step.failed")
    assert await page.locator(".gap.failed.here").count() == 1
    await page.click(".gap.failed .stamp")
    await visitor.until("document.querySelector('video').currentTime > 5")
    assert await visitor.accessible() == []


async def test_channels_have_their_names_and_words_that_overlap_light_up_together(visitor: Visitor) -> None:
    """Whoever speaks in a channel is named at each turn, and two who speak at once are both followed."""
    page = visitor.page
    agent, customer = sample("en", "counting").samples, sample("en", "quick_brown_fox").samples
    size = max(agent.size, customer.size) + 2 * RATE
    left, right = (silence(size / RATE) for _ in range(2))
    left[: agent.size] = agent
    right[RATE : RATE + customer.size] = customer
    names = {"channels": "separate", "channel_labels": "agent,customer"}
    await visitor.submit(await visitor.sign_up(), stereo(left, right), name="call.wav", **names)
    assert await page.locator(".tag.voice").all_text_contents() == ["agent", "customer"]
    await visitor.until("document.querySelector('video').readyState > 1")
    await page.evaluate("document.querySelector('video').currentTime = 2")
    await visitor.until("document.querySelectorAll('.w.now').length === 2")
