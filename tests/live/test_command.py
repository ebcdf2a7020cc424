"""`desifre live` as a shell script uses it."""

import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from infra.stack import Stack
from services.cli.sound import PIECE
from tests import media
from tests.doors.caller import Caller
from tests.doors.test_cli import Shell
from tests.live.speaker import PATIENCE
from tests.speech import amid_silence, spoken, word_errors

SAID = spoken("en")


async def test_a_recording_is_read_along(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """Text is the finals, JSON is every message with the summary last."""
    path = tmp_path / "talk.wav"
    path.write_bytes(media.encode(amid_silence(SAID, before=0.3, after=1.0), "wav"))
    shell = Shell({"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or ""})
    run = await shell("live", str(path), "--fast", "--model", "tiny.en")
    assert (run.code, run.err) == (0, "")
    assert word_errors(SAID, run.out) <= 0.2
    run = await shell("live", str(path), "--fast", "--json")
    told = [json.loads(line) for line in run.out.splitlines()]
    assert (told[0]["type"], told[-1]["type"], told[-1]["state"]) == ("ready", "summary", "completed")


def program(folder: Path, name: str, *lines: str) -> None:
    """A program in a folder, of a few lines of shell."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


async def test_a_microphone_until_ctrl_c(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """What a recorder gives is heard until Ctrl-C, which ends the recorder and waits for the last words."""
    sound = tmp_path / "said.raw"
    sound.write_bytes(amid_silence(SAID, before=0.3, after=1.0).astype("<i2").tobytes())
    # As a recorder does, it goes on for ever, and leaves a mark when it is told to stop.
    arguments, ended = tmp_path / "arguments", tmp_path / "ended"
    program(
        tmp_path / "bin",
        "arecord",
        f'echo "$@" > {shlex.quote(str(arguments))}',
        f"trap 'touch {shlex.quote(str(ended))}; exit 1' TERM",
        f"cat {shlex.quote(str(sound))}",
        "while :; do sleep 0.1; done",
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "live", "--mic", "--model", "tiny.en", "--json"),
        env={
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "DESIFRE_URL": stack.http_url,
            "DESIFRE_KEY": me.key or "",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    told = []
    async with asyncio.timeout(PATIENCE):
        left = size = sound.stat().st_size
        # What does not fill a last piece comes when the recorder ends.
        while left >= PIECE or not any(one.get("speech_final") for one in told):
            told.append(json.loads(await process.stdout.readline()))
            left = size - told[-1].get("received", size - left)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    told += [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, err) == (0, b"")
    assert (told[-1]["type"], told[-1]["state"]) == ("summary", "completed")
    assert word_errors(SAID, told[-1]["text"]) <= 0.2
    assert arguments.read_text().split() == ["-q", "-t", "raw", "-f", "S16_LE", "-r", "16000", "-c", "1", "-"]
    assert ended.exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "No program that records: install one of arecord, rec, ffmpeg."),
        (("echo 'no such device' >&2", "exit 1"), "arecord ended with code 1."),
        (("exit 0",), "arecord gave no sound: is there a microphone?"),
    ],
    ids=["none", "fails", "silent"],
)
async def test_no_microphone(
    stack: Stack, me: Caller, tmp_path: Path, lines: tuple[str, ...] | None, said: str
) -> None:
    """Without a program that records, or with one that gives nothing, one sentence says so, and the code is 2."""
    (tmp_path / "bin").mkdir()
    if lines is not None:
        program(tmp_path / "bin", "arecord", *lines)
    shell = Shell({"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or "", "PATH": str(tmp_path / "bin")})
    run = await shell("live", "--mic")
    assert (run.code, run.out) == (2, "")
    assert run.err.splitlines()[-1] == f"desifre: {said}"


async def test_files_that_need_a_converter(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """What is no plain WAV is read by ffmpeg, paced; without it, and for what cannot be read, a sentence says so."""
    short = amid_silence(SAID, before=0.1, after=0.5)[:32_000]
    path = tmp_path / "talk.flac"
    path.write_bytes(media.encode(short, "flac"))
    (tmp_path / "bin").mkdir()
    environment = {"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or "", "PATH": str(tmp_path / "bin")}
    run = await Shell(environment)("live", str(path))
    assert (run.code, run.out) == (2, "")
    assert "ffmpeg" in run.err
    raw = tmp_path / "talk.raw"
    raw.write_bytes(short.astype("<i2").tobytes())
    program(tmp_path / "bin", "ffmpeg", f"exec /bin/cat {shlex.quote(str(raw))}")
    run = await Shell(environment)("live", str(path), "--pace", "--json", "--model", "tiny.en")
    summary = json.loads(run.out.splitlines()[-1])
    assert (run.code, summary["state"]) == (0, "completed")
    assert abs(summary["duration"] - 2.0) < 0.05
    program(tmp_path / "bin", "ffmpeg", "exit 3")
    run = await Shell(environment)("live", str(path))
    assert (run.code, run.err.splitlines()[-1]) == (2, "desifre: ffmpeg ended with code 3.")


async def test_a_model_that_is_not_there(stack: Stack, me: Caller, tmp_path: Path) -> None:
    """What the server refuses ends the command at once, without a word, with the server's reason and code 3."""
    path = tmp_path / "talk.wav"
    path.write_bytes(media.encode(SAID.samples, "wav"))
    shell = Shell({"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": me.key or ""})
    run = await shell("live", str(path), "--model", "huge")
    assert (run.code, run.out) == (3, "")
    assert "model_unknown" in run.err
    run = await shell("live", str(path), "--key", "dsf_live_wrong")
    assert (run.code, run.out) == (3, "")
    assert "wrong_key" in run.err
