"""How many live sessions an engine can hear, by what they were measured to cost."""

import time

import pytest

from services.transcriber.live.load import BUSY, ENOUGH, STEP, USUAL, Load


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day in the only place where the load reads it."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def hear(load: Load, clock: list[float], seconds: float, times: int = ENOUGH) -> None:
    for _ in range(times):
        with load.measuring():
            clock[0] += seconds
        clock[0] += max(0.0, STEP - seconds)


def test_capacity_is_what_was_measured(clock: list[float]) -> None:
    """Before anything was measured the usual is assumed; then cheap steps make room, dear ones take a core each."""
    load = Load(2, None)
    assert load.capacity == int(2 * 0.95 / USUAL)
    hear(load, clock, STEP / 5)
    assert load.capacity == 9
    clock[0] += 120
    assert load.capacity == int(2 * 0.95 / USUAL)
    hear(load, clock, STEP * 3)
    assert load.capacity == 1
    assert Load(2, 7).capacity == 7


def test_silence_does_not_count(clock: list[float]) -> None:
    """A session in which nobody speaks costs nothing, and does not make room for those who will."""
    load = Load(2, None)
    hear(load, clock, STEP / 2)
    clock[0] += 30
    assert load.share == pytest.approx(0.5)


def test_the_engine_is_kept_ready_while_somebody_speaks(clock: list[float]) -> None:
    """From the first request until some seconds after the last one."""
    load = Load(2, None)
    assert not load.busy
    with load.measuring():
        assert load.busy
    clock[0] += BUSY - 1
    assert load.busy
    clock[0] += 2
    assert not load.busy


def test_the_engine_is_kept_ready_for_a_session_that_begins(clock: list[float]) -> None:
    """Before its first words there is a slot free already."""
    load = Load(2, None)
    load.expect()
    assert load.busy
    clock[0] += BUSY + 1
    assert not load.busy
