"""A server that is away for longer than a session waits for its client."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.stack import Stack
from services.contracts import subjects
from services.runtime.bus import connect_bus
from tests import media
from tests.doors.caller import Caller
from tests.live.speaker import check_finals, recording_of
from tests.speech import Speech, amid_silence, spoken, word_errors
from tests.support import operator_of

SAID = spoken("en")
ONCE = amid_silence(SAID, before=0.5, after=1.0)
SECONDS = 100.0
"""Of the recording: the session is lost after a minute, and there is something left to say then."""


@pytest.mark.long
async def test_what_was_said_meanwhile_is_a_session_of_its_own(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """Two jobs hold every sample that `desifre live` was given: those before the server went, and all since."""
    times = round(SECONDS * media.RATE / len(ONCE))
    samples = np.concatenate([ONCE] * times)
    path = tmp_path / "talk.wav"
    path.write_bytes(media.encode(samples, "wav"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "live", str(path), "--json"),
        env={**os.environ, "DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(2 * SECONDS + 120):
        while not any(one.get("seconds", 0) >= 5 for one in told):
            told.append(json.loads(await process.stdout.readline()))
        ingest = stack.process("ingest")
        await ingest.stop()
        async with connect_bus(operator_of(stack)) as bus:
            while not await bus.counts(subjects.LIVE, subjects.live_done(told[0]["session_id"])):
                await asyncio.sleep(0.5)
        ingest.start()
        out, err = await process.communicate()
    told += [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, err.decode()
    assert "goes on in another one" in err.decode()

    jobs = list(dict.fromkeys(one["session_id"] for one in told if one["type"] == "ready"))
    assert len(jobs) == 2
    assert [one["state"] for one in told if one["type"] == "summary"] == ["completed", "completed"]
    kept = [await recording_of(me, job) for job in jobs]
    assert b"".join(kept) == samples.astype("<i2").tobytes()
    assert all(len(one) > 10 * media.RATE for one in kept)
    finals = [[one for one in told if one["type"] == "final" and one["session_id"] == job] for job in jobs]
    text = "".join(check_finals(one, len(sound) / 2 / media.RATE) for one, sound in zip(finals, kept, strict=True))
    assert word_errors(Speech("en", samples, " ".join([SAID.text] * times)), text) <= 0.25
