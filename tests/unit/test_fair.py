"""The order of service: lanes by urgency with a floor for the lower ones, tenants by seconds of audio."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.contracts.jobs import Lane
from services.runtime.fair import LANES, REMEMBERED, WINDOW, Turns

INTERACTIVE, BATCH = Lane.INTERACTIVE, Lane.BATCH


def serve(turns: Turns, count: int, seconds: float = 60.0) -> list[tuple[Lane, str]]:
    """Serve `count` units of this length to whoever is next, all queues staying full."""
    served = []
    for _ in range(count):
        lane, tenant = turns.order()[0]
        turns.served(lane, tenant, seconds)
        served.append((lane, tenant))
    return served


def test_one_of_eight_pulls_goes_to_a_lower_lane() -> None:
    """A full interactive lane leaves the batch lane exactly one pull of eight."""
    turns = Turns()
    turns.add(INTERACTIVE, "a")
    turns.add(BATCH, "b")
    served = serve(turns, 10 * WINDOW)
    for at in range(len(served) - WINDOW):
        assert any(lane is BATCH for lane, _ in served[at : at + WINDOW])
    assert Counter(lane for lane, _ in served)[BATCH] == 10


@given(st.lists(st.sampled_from(LANES), min_size=2, max_size=3, unique=True))
def test_every_lane_that_has_work_is_served_in_eight_pulls(lanes: list[Lane]) -> None:
    """Whatever lanes are full, each of them is served at least once in any eight consecutive pulls."""
    turns = Turns()
    for lane in lanes:
        turns.add(lane, "t")
    served = [lane for lane, _ in serve(turns, 64)]
    for at in range(64 - WINDOW + 1):
        assert set(served[at : at + WINDOW]) == set(lanes)


def test_tenants_share_by_seconds_of_audio() -> None:
    """A tenant with units ten times as long gets a tenth as many of them."""
    turns = Turns()
    turns.add(BATCH, "long")
    turns.add(BATCH, "short")
    given_to: Counter[str] = Counter()
    for _ in range(220):
        _, tenant = turns.order()[0]
        seconds = 300.0 if tenant == "long" else 30.0
        turns.served(BATCH, tenant, seconds)
        given_to[tenant] += int(seconds)
    assert abs(given_to["long"] - given_to["short"]) <= 300


def test_idleness_saves_up_no_turns() -> None:
    """A tenant that comes back after a long pause goes next, but does not keep the others waiting."""
    turns = Turns()
    turns.add(BATCH, "busy")
    serve(turns, 100)
    turns.add(BATCH, "back")
    tenants = [tenant for _, tenant in serve(turns, 10)]
    assert tenants[0] == "back"
    assert Counter(tenants)["busy"] >= 4


def test_a_newcomer_of_the_same_lane_is_more_urgent_than_a_tenant_being_served() -> None:
    """Somebody whose turn it is goes before a tenant whose long part is on the engine; the same tenant does not."""
    turns = Turns()
    turns.add(INTERACTIVE, "long")
    turns.served(INTERACTIVE, "long", 300)
    assert turns.more_urgent([(INTERACTIVE, "long")]) is None
    turns.add(INTERACTIVE, "clip")
    assert turns.more_urgent([(INTERACTIVE, "long")]) == (INTERACTIVE, "clip")
    turns.add(BATCH, "other")
    assert turns.more_urgent([(INTERACTIVE, "clip"), (INTERACTIVE, "long")]) is None


def test_a_higher_lane_is_more_urgent() -> None:
    """Interactive work goes before batch work that is on the engine, and never the other way round."""
    turns = Turns()
    turns.add(BATCH, "b")
    turns.served(BATCH, "b", 300)
    turns.add(INTERACTIVE, "a")
    assert turns.more_urgent([(BATCH, "b")]) == (INTERACTIVE, "a")
    assert turns.more_urgent([(INTERACTIVE, "a")]) is None


def test_clocks_of_tenants_that_left_are_forgotten() -> None:
    """However many tenants came once, the memory of them is bounded."""
    turns = Turns()
    for n in range(2 * REMEMBERED):
        turns.add(BATCH, str(n))
        turns.served(BATCH, str(n), 1)
        turns.remove(BATCH, str(n))
    assert len(turns._lanes[BATCH].clocks) <= REMEMBERED + 1
