"""Signatures, the schedule, the body and the turns of callbacks, each by itself."""

import asyncio
import base64
import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from services.contracts.callbacks import Callback, webhook_id
from services.contracts.events import Record
from services.contracts.ids import new_job_id, new_tenant
from services.contracts.jobs import Door, Failure, Lane, State, Timings
from services.contracts.transcript import Coverage, Ranges, Transcript
from services.ingest.callbacks import notice, signature
from services.ingest.callbacks.receivers import AT_ONCE, LATEST, LINE, Receivers
from services.ingest.callbacks.schedule import LONGEST, Schedule, retry_after
from services.ingest.settings import Settings

OLD, NEW = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
BODY = b'{"type":"transcription.completed"}'
NOTHING = Ranges(seconds=0)


def record(state: State = State.COMPLETED, **more: object) -> Record:
    found = Record(
        job=new_job_id(),
        tenant=new_tenant(),
        key_id="k" * 8,
        door=Door.HTTP,
        lane=Lane.INTERACTIVE,
        model="base",
        state=state,
        duration=12.3456,
        language="tr",
        timings=Timings(accepted=1_700_000_000.0, finished=1_700_000_012.5),
    )
    return found.model_copy(update=more)


def transcript(text: str) -> Transcript:
    coverage = Coverage(decoded=1, transcribed=1, non_speech=NOTHING, failed=NOTHING, suspect=NOTHING)
    return Transcript(job="j", model="base", task="transcribe", duration=1, text=text, segments=(), coverage=coverage)


@pytest.mark.parametrize("held", [OLD, NEW])
def test_a_receiver_verifies_with_any_secret_of_a_rotation(held: str) -> None:
    """While two secrets sign, a receiver that holds either of them takes the message."""
    headers = signature.headers((NEW, OLD), "job_1_completed", int(time.time()), BODY)
    assert Webhook(held).verify(BODY, headers) == {"type": "transcription.completed"}
    assert len(headers["webhook-signature"].split()) == 2


def test_a_changed_message_is_not_verified() -> None:
    """Another body, another id or another time than those signed are refused."""
    headers = signature.headers((NEW,), "job_1_completed", int(time.time()), BODY)
    later = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}
    for body, shown in [(BODY + b" ", headers), (BODY, headers | {"webhook-id": "job_2_completed"}), (BODY, later)]:
        with pytest.raises(WebhookVerificationError):
            Webhook(NEW).verify(body, shown)


def test_the_schedule_is_that_of_standard_webhooks() -> None:
    """Ten calls over 75.6 hours, each wait within a fifth of its length, and then no more."""
    waits = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    assert Settings.model_fields["callback_retries"].default == waits
    assert sum(waits) / 3600 == pytest.approx(75.58, abs=0.01)
    for draw, share in [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)]:
        schedule = Schedule(waits, lambda draw=draw: draw)
        assert [schedule.after(calls) for calls in range(1, 10)] == pytest.approx([share * wait for wait in waits])
        assert schedule.after(10) is None


def test_a_retry_after_makes_the_wait_longer_and_never_shorter() -> None:
    """What a receiver asks for is heeded up to a day; asked for less than the schedule has, the schedule holds."""
    schedule = Schedule((300, 300), lambda: 0.5)
    assert schedule.after(1, 1.0) == 300
    assert schedule.after(1, 1000.0) == 1000
    assert schedule.after(1, 1e9) == LONGEST
    assert schedule.after(3, 1000.0) is None


def test_retry_after_is_a_number_or_a_date() -> None:
    """Seconds, an HTTP date, a date that is past, and nonsense."""
    now = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT
    assert retry_after("120", now) == 120
    assert retry_after("Wed, 21 Oct 2015 07:30:00 GMT", now) == 120
    assert retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now) == 0
    assert [retry_after(text, now) for text in (None, "", "soon", "-1", "²")] == [None] * 5


def test_the_body_says_what_became_of_the_job() -> None:
    """Type, time, numbers and addresses of a completed job; of its text nothing unless it was asked for."""
    ended = record()
    told = json.loads(notice.body(ended, Callback(url="u"), transcript("bir iki üç"), "https://stt.example"))
    assert told == {
        "type": "transcription.completed",
        "timestamp": "2023-11-14T22:13:32.500Z",
        "data": {
            "job_id": ended.job,
            "state": "completed",
            "summary": {"duration": 12.346, "language": "tr", "words": 3},
            "urls": {
                "job": f"https://stt.example/jobs/{ended.job}",
                "result": f"https://stt.example/jobs/{ended.job}/result",
            },
        },
    }
    assert webhook_id(ended.job, ended.state) == f"{ended.job}_completed"


def test_the_body_of_a_failure_holds_its_reason() -> None:
    """A failed job tells its code and sentence, and no result."""
    ended = record(State.FAILED, failure=Failure(code="not_audio", message="This is text."))
    told = json.loads(notice.body(ended, Callback(url="u"), None, ""))
    assert (told["type"], told["data"]["failure"]["code"]) == ("transcription.failed", "not_audio")
    assert told["data"]["urls"] == {"job": f"/jobs/{ended.job}"}


@pytest.mark.parametrize(("length", "there"), [(19_000, True), (20_000, False), (9_000_000, False)])
def test_a_body_stays_under_twenty_kilobytes(length: int, there: bool) -> None:
    """The text is in it when it was asked for and is small; a larger one is left out, and everything else stays."""
    body = notice.body(record(), Callback(url="u", include="transcript"), transcript("x" * length), "")
    assert len(body) < 20_000
    assert ("transcript" in json.loads(body)["data"]) is there
    assert json.loads(body)["data"]["summary"]["words"] == 1


async def test_calls_of_one_receiver_are_few_and_tenants_take_turns() -> None:
    """Four calls at once; a tenant that comes late goes before the third waiting call of the one before it."""
    receivers, order, go = Receivers(), [], asyncio.Event()

    async def call(tenant: str, n: int) -> None:
        async with receivers.turn(tenant, "host:443"):
            order.append((tenant, n))
            await go.wait()

    tasks = []
    for tenant, n in [*(("a", n) for n in range(LINE)), ("b", 0)]:
        tasks.append(asyncio.create_task(call(tenant, n), name="call"))
        await asyncio.sleep(0)
    assert order == [("a", n) for n in range(AT_ONCE)]
    assert receivers.full("a", "host:443") is not None
    assert receivers.full("b", "host:443") is None
    assert receivers.full("a", "other:443") is None
    go.set()
    await asyncio.gather(*tasks)
    assert order.index(("b", 0)) == AT_ONCE + 1
    assert receivers.full("a", "host:443") is None


async def test_those_sent_away_come_again_one_after_the_other() -> None:
    """However many find the line full, they come over the time that the receiver will need, up to five minutes."""
    receivers, go = Receivers(lambda: 0.0), asyncio.Event()

    async def call() -> None:
        async with receivers.turn("a", "host:443"):
            await go.wait()

    tasks = [asyncio.create_task(call(), name="call") for _ in range(LINE)]
    await asyncio.sleep(0)
    waits = [receivers.full("a", "host:443") or 0 for _ in range(5000)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1 / AT_ONCE, LATEST)
    assert max(waits.count(wait) for wait in set(waits) - {LATEST}) == 1
    go.set()
    await asyncio.gather(*tasks)


async def test_a_call_that_is_given_up_leaves_its_place_to_the_next() -> None:
    """Who is cancelled while waiting or while calling holds nobody up."""
    receivers, go, done = Receivers(), asyncio.Event(), []

    async def call(n: int) -> None:
        async with receivers.turn("a", "host:443"):
            await go.wait()
            done.append(n)

    tasks = []
    for n in range(LINE):
        tasks.append(asyncio.create_task(call(n), name="call"))
        await asyncio.sleep(0)
    for given_up in (0, AT_ONCE):
        tasks[given_up].cancel()
    await asyncio.wait([tasks[0], tasks[AT_ONCE]])
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(done) == [n for n in range(LINE) if n not in (0, AT_ONCE)]
