"""Asking for a transcript, and what is true of every one."""

import io
from itertools import pairwise
from typing import Any

import pytest

from tests.doors.caller import Caller

ROUNDING = 0.002
"""Seconds: times are given in milliseconds."""


async def transcribe(who: Caller, recording: bytes, **options: str) -> dict[str, Any]:
    """The answer of `POST /transcribe`, which is checked."""
    reply = await who("POST", "/transcribe", params=options, data=io.BytesIO(recording))
    assert reply.status == 200, reply.body
    answer: dict[str, Any] = reply.json()
    check(answer)
    return answer


def check(answer: dict[str, Any]) -> None:
    """Words in order, inside the recording and its segments, with probabilities; every second accounted for."""
    duration, words, segments, coverage = (answer[name] for name in ("duration", "words", "segments", "coverage"))
    for span in (*words, *segments):
        assert 0 <= span["start"] <= span["end"] <= duration + ROUNDING
    for before, after in (*pairwise(words), *pairwise(segments)):
        assert before["end"] <= after["start"] + ROUNDING
    for word in words:
        assert word.keys() == {"word", "start", "end", "probability"}
        assert 0 <= word["probability"] <= 1
        assert word["word"].strip()
    assert answer["text"] == "".join(segment["text"] for segment in segments).strip()
    if words:
        assert answer["text"] == "".join(word["word"] for word in words).strip()
    assert coverage["decoded"] == duration
    parts = coverage["transcribed"] + coverage["non_speech"]["seconds"] + coverage["failed"]["seconds"]
    assert parts == pytest.approx(duration, abs=0.05)
    for name in ("non_speech", "failed", "suspect"):
        ranges = coverage[name]["ranges"]
        assert sum(end - start for start, end in ranges) == pytest.approx(coverage[name]["seconds"], abs=0.01)
        assert all(0 <= start < end <= duration + ROUNDING for start, end in ranges)
        assert all(before[1] < after[0] for before, after in pairwise(ranges))
    assert coverage["suspect"]["seconds"] <= coverage["transcribed"] + ROUNDING
