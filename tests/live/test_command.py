"""`desifre live` as a shell script uses it."""

import json
from pathlib import Path

from infra.stack import Stack
from tests import media
from tests.doors.caller import Caller
from tests.doors.test_cli import Shell
from tests.speech import amid_silence, spoken, word_errors

SAID = spoken("en")


async def test_a_recording_is_read_along(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """Text is the finals, JSON is every message with the summary last; no words are printed for a wrong key."""
    path = tmp_path / "talk.wav"
    path.write_bytes(media.encode(amid_silence(SAID, before=0.3, after=1.0), "wav"))
    shell = Shell({"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or ""})
    run = await shell("live", str(path), "--fast", "--model", "tiny.en")
    assert (run.code, run.err) == (0, "")
    assert word_errors(SAID, run.out) <= 0.2
    run = await shell("live", str(path), "--fast", "--json")
    told = [json.loads(line) for line in run.out.splitlines()]
    assert (told[0]["type"], told[-1]["type"], told[-1]["state"]) == ("ready", "summary", "completed")
    run = await shell("live", str(path), "--fast", "--key", "dsf_live_wrong")
    assert (run.code, run.out) == (3, "")
