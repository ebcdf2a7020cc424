"""What the engine does when memory runs out: smaller batches, down to one window."""

from collections.abc import Sequence

import pytest

from services.transcriber.engine.protocol import Window
from services.transcriber.engine.whisper import TooLittleMemory, halving

WINDOWS = [Window(bytes(320), float(start)) for start in range(7)]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA failed with error out of memory")])
@pytest.mark.parametrize("fits", [1, 2, 3, 7])
def test_a_batch_that_does_not_fit_is_halved(error: Exception, fits: int) -> None:
    """Whatever fits into memory at a time, every window is heard once and results come in order."""

    def hear(some: Sequence[Window]) -> list[float]:
        if len(some) > fits:
            raise error
        return [window.start for window in some]

    assert halving(WINDOWS, hear) == [window.start for window in WINDOWS]


def test_a_window_that_does_not_fit_alone_is_too_much() -> None:
    """When not even one window fits, halving says so instead of trying for ever."""

    def hear(some: Sequence[Window]) -> list[float]:
        raise MemoryError

    with pytest.raises(TooLittleMemory):
        halving(WINDOWS, hear)


def test_other_errors_are_not_a_matter_of_memory() -> None:
    """An error that has nothing to do with memory is passed on at once."""

    def hear(some: Sequence[Window]) -> list[float]:
        raise RuntimeError("the weights are not finite")

    with pytest.raises(RuntimeError, match="finite"):
        halving(WINDOWS, hear)
