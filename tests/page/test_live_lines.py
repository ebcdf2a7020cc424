"""Live speech on the page over bad lines and at bad ends, which a real server cannot be told to have.

The browser, its microphone and the page are real; what the socket says is a script.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Route, WebSocketRoute

from tests.page.conftest import Visitor

SECOND = 32_000
Heard = Callable[["Line", Any], None]


class Line:
    """One socket of the page, from the server's side."""

    def __init__(self, route: WebSocketRoute) -> None:
        self._route = route
        self.first: dict[str, Any] = {}
        self.size = 0
        self.closing: asyncio.Task[None] | None = None

    def say(self, kind: str, **more: Any) -> None:
        self._route.send(json.dumps({"type": kind, **more}))

    def ready(self, name: str, received: int = 0) -> None:
        self.say("ready", session_id=name, job_id=name, received=received, warm=True)

    def summary(self, seconds: float, **more: Any) -> None:
        self.say("summary", **{"job_id": "job_a", "state": "completed", "duration": seconds, "text": "", **more})

    def close(self, code: int) -> None:
        self.closing = asyncio.get_running_loop().create_task(self._route.close(code=code), name="close")


class Script:
    """Each live socket is heard by the next of its functions: `start`, `resume`, `close`, and sound as bytes."""

    def __init__(self, *hearers: Heard) -> None:
        self._left = list(hearers)
        self.lines: list[Line] = []

    def __call__(self, route: WebSocketRoute) -> None:
        line = Line(route)
        hearer: Heard | None = None

        def hear(data: str | bytes) -> None:
            nonlocal hearer
            told = None if isinstance(data, bytes) else json.loads(data)
            if told and told["type"] in ("start", "resume"):  # others look at the list of files
                hearer = self._left.pop(0)
                line.first = told
                self.lines.append(line)
            if hearer is None or line.closing:
                return
            if isinstance(data, bytes):
                line.size += len(data)
            hearer(line, told["type"] if told else data)

        route.on_message(hear)


async def begin(visitor: Visitor, *hearers: Heard) -> Script:
    """The page's live view, speaking to a script."""
    script = Script(*hearers)
    await visitor.page.route_web_socket(lambda url: "/ws" in url, script)
    await visitor.sign_up()
    await visitor.page.click("nav a:text-is('Live')")
    await visitor.page.click(".live .main")
    return script


async def told(visitor: Visitor, text: str) -> None:
    """Wait until the page says it."""
    await visitor.page.locator(f".notice:has-text({json.dumps(text)})").wait_for()


def patient(line: Line, what: Any) -> None:
    """Take everything, and end well when asked to."""
    if what in ("start", "resume"):
        line.ready("job_a")
    elif what == "close":
        line.say("received", received=line.size)
        line.summary(line.size / SECOND)


async def test_a_session_that_ends_by_an_error_says_why(visitor: Visitor) -> None:
    """When the quota is used up the page says so, with a way to the words so far, and nothing green."""

    def ends(line: Line, what: Any) -> None:
        if what == "start":
            line.ready("job_a")
            line.summary(0.0, error={"code": "quota_exceeded", "title": "The quota is used up"})

    await begin(visitor, ends)
    await told(visitor, "quota is used up")
    assert await visitor.page.locator("main a[href='#/job/job_a']").count() == 1
    assert await visitor.page.locator(".notice.good").count() == 0


async def test_what_a_lost_session_did_not_take_goes_on_in_another(visitor: Visitor) -> None:
    """Who is away for too long speaks on in a second session, which begins with the first sound that was not taken.

    Also where the place of the first one is not free yet.
    """

    def breaks(line: Line, what: Any) -> None:
        if what == "start":
            line.ready("job_a")
        elif line.size > SECOND // 2:
            line.say("received", received=SECOND // 2)
            line.close(4500)

    def lost(line: Line, what: Any) -> None:
        if what == "resume":
            line.ready("job_a", SECOND // 2)
            line.summary(0.5)

    def full(line: Line, what: Any) -> None:
        if what == "start":
            line.say("error", code="no_room_for_live", title="No room for another live session")
            line.close(1013)

    def another(line: Line, what: Any) -> None:
        if what == "start":
            line.ready("job_b")
        elif what == "close":
            line.summary(line.size / SECOND, job_id="job_b")
        else:
            line.say("received", received=line.size)

    script = await begin(visitor, breaks, lost, full, another)
    await told(visitor, "goes on in another")
    await visitor.until("document.querySelector('.live .time').textContent !== '0:00'")
    await visitor.page.click(".stop")
    await told(visitor, "is a job now")
    assert [line.first["type"] for line in script.lines] == ["start", "resume", "start", "start"]
    hrefs = await visitor.page.eval_on_selector_all("main a.button", "links => links.map((link) => link.hash)")
    assert hrefs == ["#/job/job_a", "#/job/job_b"]
    assert script.lines[3].size > script.lines[0].size - SECOND // 2


@pytest.mark.long
async def test_a_connection_that_died_in_silence_is_noticed(visitor: Visitor) -> None:
    """When nothing comes back any more the page connects anew, and sends again what was not safe."""

    def silent(line: Line, what: Any) -> None:
        if what == "start":
            line.ready("job_a")

    script = await begin(visitor, silent, patient)
    async with asyncio.timeout(60):
        while len(script.lines) < 2 or script.lines[1].size <= script.lines[0].size:
            await asyncio.sleep(0.05)
    await visitor.page.click(".stop")
    await told(visitor, "is a job now")
    assert script.lines[1].first["type"] == "resume"


async def test_the_last_words_are_waited_for(visitor: Visitor) -> None:
    """A `close` that is refused for now is said again, and until the summary the page says what it waits for."""
    closes = 0
    again = asyncio.Event()

    def busy(line: Line, what: Any) -> None:
        nonlocal closes
        if what == "start":
            line.ready("job_a")
            line.say("lag", position=0.0, seconds=2.5)
        elif what == "close":
            closes += 1
            if closes == 1:
                line.say("claimed", position=0.0, warm=True)
                line.say("interim", position=0.5, text="so far")
                line.say("error", code="unavailable", title="A part is away", retry_after=1)
            else:
                again.set()

    script = await begin(visitor, busy)
    await visitor.page.locator(".meters :text('2.5 s behind')").wait_for()
    await visitor.page.click(".stop")
    await visitor.page.locator(".interim:text('so far')").wait_for()
    assert await visitor.page.locator(".meters [role=status]").text_content() == "The last words are coming"
    await asyncio.wait_for(again.wait(), 60)
    script.lines[0].summary(script.lines[0].size / SECOND)
    await told(visitor, "is a job now")
    assert closes == 2


async def test_a_start_that_is_refused_for_now_is_repeated(visitor: Visitor) -> None:
    """What is away when the session begins is waited for, with the sound kept; a key that ends is told as that."""

    def away(line: Line, what: Any) -> None:
        if what == "start":
            line.say("error", code="unavailable", title="A part is away")

    def revoked(line: Line, what: Any) -> None:
        if what == "start":
            line.ready("job_a")
        elif isinstance(what, bytes):
            line.say("closing", reason="revoked")
            line.close(4403)

    await begin(visitor, away, revoked)
    await told(visitor, "This key is not valid")


async def test_a_late_answer_leaves_alone_what_was_begun(visitor: Visitor) -> None:
    """Whoever speaks before the service has said whose the new key is goes on speaking when it does."""
    answer = asyncio.Event()

    async def late(route: Route) -> None:
        await answer.wait()
        await route.continue_()

    await visitor.page.route("**/me", late)
    script = await begin(visitor, patient)
    async with asyncio.timeout(60):
        while not script.lines or not script.lines[0].size:
            await asyncio.sleep(0.05)
    async with visitor.page.expect_response("**/me"):
        answer.set()
    before = script.lines[0].size
    async with asyncio.timeout(60):
        while script.lines[0].size <= before + SECOND // 2:
            await asyncio.sleep(0.05)
    await visitor.page.click(".stop")
    await told(visitor, "is a job now")


async def test_one_microphone_however_often_it_is_asked_for(visitor: Visitor) -> None:
    """Two clicks open one microphone, and one that is allowed after the reader has gone elsewhere is left at once."""
    await visitor.page.add_init_script("""
      window.tracks = [];
      const media = navigator.mediaDevices;
      const asked = media.getUserMedia.bind(media);
      media.getUserMedia = async (what) => {
        const stream = await asked(what);
        window.tracks.push(...stream.getTracks());
        await new Promise((resolve) => { window.allow = resolve; });
        return stream;
      };
    """)
    script = Script(patient, patient)
    await visitor.page.route_web_socket(lambda url: "/ws" in url, script)
    await visitor.sign_up()
    await visitor.page.click("nav a:text-is('Live')")
    await visitor.page.evaluate("() => { const b = document.querySelector('.live .main'); b.click(); b.click(); }")
    await visitor.until("window.tracks.length > 0 && !!window.allow")
    await visitor.page.click("nav a:text-is('Files')")
    await visitor.page.wait_for_selector(".drop")
    await visitor.page.evaluate("() => window.allow()")
    await visitor.until("window.tracks.every((track) => track.readyState === 'ended')")
    assert await visitor.page.evaluate("window.tracks.length") == 1
    assert script.lines == []


async def test_a_slow_sound_card_is_sent_at_full_length(visitor: Visitor) -> None:
    """From a card of 8 kHz, or of any other rate, as many samples come out as a second of 16 kHz has."""
    await visitor.page.goto(visitor.home)
    for rate in (8000, 11025, 16000, 44100, 48000):
        seconds = await visitor.page.evaluate(
            """async (rate) => {
              const context = new OfflineAudioContext(1, rate * 2, rate);
              await context.audioWorklet.addModule("/page/worklet.js");
              const taker = new AudioWorkletNode(context, "taker", { numberOfOutputs: 0 });
              let samples = 0;
              taker.port.onmessage = ({ data }) => { samples += data.pcm.byteLength / 2; };
              const source = new ConstantSourceNode(context);
              source.connect(taker);
              source.start();
              await context.startRendering();
              const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
              for (let tries = 0; samples < 1.9 * 16000 && tries < 600; tries += 1) await wait(50);
              await wait(100);  // and no more than that
              return samples / 16000;
            }""",
            rate,
        )
        assert abs(seconds - 2) <= 0.11, rate
