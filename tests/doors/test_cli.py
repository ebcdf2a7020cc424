"""The command line as a shell script uses it: real processes against the whole service."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from infra.stack import Stack
from tests import media
from tests.doors.caller import Caller


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    out: str
    err: str


class Shell:
    """Runs `desifre …` with a server and a key in its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **environment}

    async def __call__(self, *arguments: str) -> Run:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", *arguments, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return Run(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def shell(stack: Stack) -> Shell:
    async with aiohttp.ClientSession() as session:
        key = (await Caller(session, stack.http_url).sign_up()).key
    return Shell({"DESIFRE_URL": stack.http_url, "DESIFRE_KEY": key})


def recording(folder: Path, name: str, seed: int) -> Path:
    path = folder / name
    path.write_bytes(media.encode(media.talk(3.0, seed=seed), "wav"))
    return path


async def test_files_become_texts_below_a_folder(shell: Shell, tmp_path: Path) -> None:
    """Several files go in at once, each has its result under its own name, and nothing else is printed but jobs."""
    files = [str(recording(tmp_path, f"{n}.wav", 40 + n)) for n in range(3)]
    run = await shell("transcribe", *files, "--format", "srt", "--out", str(tmp_path / "out"), "--json")
    assert (run.code, run.err) == (0, "")
    told = [json.loads(line) for line in run.out.splitlines()]
    assert [one["file"] for one in told] == files
    assert {one["state"] for one in told} == {"completed"}
    for n in range(3):
        assert "-->" in (tmp_path / "out" / f"{n}.wav.srt").read_text()


async def test_a_job_is_submitted_listed_watched_and_read(shell: Shell, tmp_path: Path) -> None:
    """Without waiting the id is printed, and with it the other commands find the job."""
    run = await shell("transcribe", str(recording(tmp_path, "a.wav", 50)), "--no-wait")
    job = run.out.strip()
    assert run.code == 0
    watched = await shell("watch", job, "--json")
    assert watched.code == 0
    assert json.loads(watched.out.splitlines()[-1])["state"] == "completed"
    assert job in (await shell("jobs")).out
    text = await shell("result", job)
    assert text.code == 0
    assert text.out.strip()
    assert json.loads((await shell("result", job, "--format", "json")).out)["text"] == text.out.strip()
    assert (await shell("cancel", job)).code == 0
    assert (await shell("result", job)).code == 3


async def test_what_goes_wrong_has_a_code_and_a_sentence(shell: Shell, tmp_path: Path) -> None:
    """A failed job, a refusal, a missing server and a missing key each have an exit code and say what to do."""
    noise = tmp_path / "noise.bin"
    noise.write_bytes(b"this is no recording" * 50)
    failed = await shell("transcribe", str(noise))
    assert (failed.code, "not_audio" in failed.err) == (1, True)
    refused = await shell("transcribe", str(noise), "--model", "huge")
    assert (refused.code, "model_unknown" in refused.err) == (3, True)
    nobody = await shell("jobs", "--url", "http://127.0.0.1:9")
    assert (nobody.code, "desifre up" in nobody.err) == (4, True)
    keyless = await Shell({"DESIFRE_KEY": ""})("jobs")
    assert (keyless.code, "DESIFRE_KEY" in keyless.err) == (2, True)
    assert (await shell("result", "job_x", "--format", "docx")).code == 2
