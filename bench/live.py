"""Live speech over a real socket, in real time: how long after it was said a word is read.

A word's latency is the moment its first interim, or its final, reaches the client less the moment its last sample was
sent. When a word ends is what the same engine says of the whole recording, offline; words are matched to those by
the fewest edits, and what does not match is counted and left out.
"""

import asyncio
import itertools
import json
import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rapidfuzz.distance import Levenshtein

from bench.client import ENDED, Client
from bench.harness import Figure, Row, at, quantile
from bench.rig import Rig, Service
from bench.speech import RATE, Recording, load

PIECE = 0.1
"""Seconds of audio in one message."""
TARGETS = {"tiny.en": (1.1, 1.8, 0.6), "base": (1.5, 2.5, None)}
"""Seconds: p50 and p95 of finals, p50 of interims."""
BESIDE = 1.3
"""Times that p95 which it may be while a long recording is transcribed."""
_LETTERS = re.compile(r"[^\w]+")


@dataclass
class Heard:
    """One session: when each piece was sent, and what came when. Seconds of `time.perf_counter`."""

    begun: float = 0.0
    sent: list[float] = field(default_factory=list)
    told: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    @property
    def finals(self) -> list[tuple[float, dict[str, Any]]]:
        """Each with its moment."""
        return [(when, one) for when, one in self.told if one["type"] == "final"]

    @property
    def text(self) -> str:
        """Of all finals."""
        return "".join(one["text"] for _, one in self.finals).strip()

    def sent_at(self, position: float) -> float:
        """When the sample at this second had left."""
        return self.sent[min(len(self.sent) - 1, max(0, int(position / PIECE)))]

    @property
    def changed(self) -> int:
        """Numbers of finals that came twice, or out of turn: words that somebody read and that are no more."""
        return sum(one["n"] != n for n, (_, one) in enumerate(self.finals))

    @property
    def words_at(self) -> list[float]:
        """When words were told."""
        return [when for when, one in self.told if one["type"] in ("interim", "final")]

    @property
    def longest_pause(self) -> float:
        """Seconds between two messages about words."""
        return max((b - a for a, b in itertools.pairwise(self.words_at)), default=0.0)

    def pause_after(self, moment: float) -> float:
        """Seconds from a moment to the next message about words."""
        return next((when - moment for when in self.words_at if when > moment), float("inf"))


async def speak(client: Client, recording: Recording, model: str) -> Heard:
    """Say a recording, as fast as it was spoken."""
    data = load(recording.path).astype("<i2").tobytes()
    heard = Heard()
    step = int(PIECE * RATE) * 2
    async with client.socket() as ws:
        await ws.send_str(json.dumps({"type": "start", "model": model, "language": "en"}))
        assert json.loads((await ws.receive(timeout=60)).data)["type"] == "ready"
        heard.begun = time.perf_counter()

        async def talk() -> None:
            for n, offset in enumerate(range(0, len(data), step)):
                await asyncio.sleep(max(0.0, heard.begun + n * PIECE - time.perf_counter()))
                await ws.send_bytes(data[offset : offset + step])
                heard.sent.append(time.perf_counter())
            await ws.send_str('{"type": "close"}')

        talking = asyncio.create_task(talk(), name="talk")
        async for message in ws:
            heard.told.append((time.perf_counter(), json.loads(message.data)))
        await talking
    assert heard.told[-1][1]["type"] == "summary", heard.told[-1]
    return heard


def latencies(
    heard: Heard, offline: Sequence[dict[str, Any]], until: float = float("inf")
) -> tuple[list[float], list[float], int]:
    """Seconds of every final word, of every word's first interim (or final, if there was none), and words left out.

    Words that were said after `until` count for nothing.
    """
    finals = [(when, word) for when, one in heard.finals for word in one["words"]]
    ends = [_plain(word["word"]) for word in offline]
    # Not difflib, which would match a passage that is spoken twice to the other time.
    edits = Levenshtein.opcodes([_plain(word["word"]) for _, word in finals], ends)
    final, first = [], []
    for same in (edit for edit in edits if edit.tag == "equal"):
        for n in range(same.src_end - same.src_start):
            when, word = finals[same.src_start + n]
            if (said := heard.sent_at(offline[same.dest_start + n]["end"])) > until:
                continue
            final.append(when - said)
            first.append(min(when, _first(heard, word, when)) - said)
    return final, first, len(finals) - len(final)


def _first(heard: Heard, word: dict[str, Any], at_latest: float) -> float:
    """When an interim first held this word at about its place."""
    for when, one in heard.told:
        if when >= at_latest:
            break
        if one["type"] == "interim" and any(
            _plain(w["word"]) == _plain(word["word"]) and abs(w["end"] - word["end"]) < 0.5 for w in one["words"]
        ):
            return when
    return at_latest


def _plain(word: str) -> str:
    return _LETTERS.sub("", word.lower())


async def measure(rig: Rig) -> Row:
    """Alone, beside a long recording, and while the transcriber is killed."""
    row = Row("live speech in real time over a socket, one session")
    recording = rig.speech.long(min(rig.sizes.long, 300.0) if rig.sizes.long > 100 else 60.0)
    p50, p95, interim = TARGETS.get(rig.model, (None, None, None))
    async with rig.service() as service:
        client = await service.client()
        offline = await client.words((await client.transcribe(recording.path)).job)
        alone = await speak(client, recording, rig.model)
        final, first, left = latencies(alone, offline)
        row.figures += [
            at(0.5, "final words, p50", final, "s", p50),
            at(0.95, "final words, p95", final, "s", p95),
            at(0.5, "first interims, p50", first, "s", interim),
        ]
        if rig.errors and recording.text:
            said = " ".join(word["word"].strip() for word in offline)
            points = rig.errors.rate(recording.text, alone.text) - rig.errors.rate(recording.text, said)
            row.figures.append(Figure("word error rate above the offline transcript's", points, "points", target=1.5))
        beside, until, share = await _beside(rig, service, recording)
        busy, _, _ = latencies(beside, offline, until)
        row.figures += [
            Figure("p95 beside a long recording ÷ alone", quantile(busy, 0.95) / quantile(final, 0.95), target=BESIDE),
            Figure("batch throughput beside ÷ alone", share, target=0.4 if rig.model == "tiny.en" else 0.2, more=True),
        ]
        killed, at_moment = await _killed(service, client, recording, rig.model)
        lost = sum(tag in ("delete", "replace") for tag in _edits(alone.text, killed.text))
        row.figures += [
            Figure("from a kill in mid-sentence to the next words", killed.pause_after(at_moment), "s", target=5.0),
            Figure("finals that changed", alone.changed + beside.changed + killed.changed, target=0),
        ]
        row.notes += [
            f"{len(final)} words in {recording.seconds:.0f} s; {left} more are otherwise in the offline transcript",
            f"{len(busy)} words beside the long recording",
            f"longest time without words {alone.longest_pause:.1f} s, with a kill {killed.longest_pause:.1f} s",
            f"{lost} differences with a kill",
        ]
    row.samples = {"final": final, "first": first, "beside": busy}
    return row


def _edits(a: str, b: str) -> list[str]:
    words = [[_plain(word) for word in text.split()] for text in (a, b)]
    return [edit.tag for edit in Levenshtein.opcodes(words[0], words[1])]


async def _beside(rig: Rig, service: Service, recording: Recording) -> tuple[Heard, float, float]:
    """A session while a long recording is transcribed: until when that ran, and what share of its pace alone it kept.

    Both paces are of the whole of it, preparing included. Beside a session it ends with the session at the latest,
    and its pace is then that of what was done; words that were said after its own end are not beside it.
    """
    long = rig.speech.long(3600.0 if rig.sizes.long > 100 else 300.0)
    other, client = await service.client(), await service.client()

    async def transcribe() -> tuple[float, float]:
        """When it ended, and the share of it that was done by then, per second."""
        began = time.perf_counter()
        job = await other.submit(long.path)
        done = 0.0
        try:
            while (view := await other.look(job, wait=1))["state"] not in ENDED:
                done = view["progress"]
            done, ended = 1.0, time.perf_counter()
        except asyncio.CancelledError:
            ended = time.perf_counter()
        await other.erase(job)
        return ended, done / (ended - began)

    _, alone = await transcribe()
    batch = asyncio.create_task(transcribe(), name="batch")
    heard = await speak(client, recording, rig.model)
    batch.cancel()
    until, beside = await batch
    return heard, until, beside / alone


async def _killed(service: Service, client: Client, recording: Recording, model: str) -> tuple[Heard, float]:
    """A session in whose middle the transcriber is killed, and when it was."""

    async def kill() -> float:
        await asyncio.sleep(recording.seconds / 2)
        with suppress(ProcessLookupError):
            os.kill(service.pid("transcriber"), signal.SIGKILL)
        return time.perf_counter()

    killing = asyncio.create_task(kill(), name="kill")
    heard = await speak(client, recording, model)
    return heard, await killing
