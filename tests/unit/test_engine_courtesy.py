"""How batches give way to an urgent one inside the engine child."""

import threading

from services.transcriber.engine.desk import Courtesy


def test_a_batch_waits_while_an_urgent_one_needs_its_place() -> None:
    """With as many places as batches, one of them stops at its next stage until the urgent request is done."""
    courtesy, stages = Courtesy(2, patience=60.0), threading.Semaphore(0)
    paused = threading.Event()

    def batch() -> None:
        with courtesy.working(urgent=False) as give_way:
            paused.set()
            give_way()
            stages.release()

    with courtesy.working(urgent=False) as other, courtesy.working(urgent=True) as urgent:
        thread = threading.Thread(target=batch)
        thread.start()
        assert paused.wait(60)
        while courtesy.active > 2:
            thread.join(0.001)
        assert thread.is_alive()
        assert not stages.acquire(blocking=False)
        urgent()
        other()
        assert courtesy.active == 2
    thread.join(60)
    assert stages.acquire(blocking=False)
    assert courtesy.active == 0


def test_nobody_gives_way_without_need() -> None:
    """While there are places for all, or nothing is urgent, batches go on."""
    courtesy = Courtesy(1, patience=60.0)
    with courtesy.working(urgent=False) as one, courtesy.working(urgent=False) as other:
        one()
        other()
    with Courtesy(2, patience=60.0).working(urgent=True) as alone:
        alone()


def test_patience_ends() -> None:
    """A batch that has given way long enough goes on beside the urgent one."""
    courtesy = Courtesy(1, patience=0.01)
    with courtesy.working(urgent=True), courtesy.working(urgent=False) as batch:
        batch()
        batch()
        assert courtesy.active == 2
