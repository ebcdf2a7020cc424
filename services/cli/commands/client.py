"""The client's commands: transcribe files, look at jobs, fetch results. Good in a shell script.

Exit codes: 0 all is well, 1 a job failed or was cancelled, 2 the command is wrong, 3 the server refused,
4 nothing answers.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from services.cli.api import Api, Job, Refused, Unreachable, connect
from services.cli.progress import Lines, lines

AT_ONCE = 4
"""Files that are uploaded and waited for at once."""
ENDINGS = {"json": "json", "verbose_json": "json", "text": "txt", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}

Url = Annotated[str, typer.Option("--url", envvar="DESIFRE_URL", help="Where the service listens.")]
Key = Annotated[str, typer.Option("--key", envvar="DESIFRE_KEY", help="Your API key; better in DESIFRE_KEY.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: the jobs as JSON, one to a line.")]
Form = Annotated[str, typer.Option("--format", help="json, verbose_json, text, srt, vtt or tsv.")]
HERE = "http://127.0.0.1:3333"


def register(root: typer.Typer) -> None:
    """Add the commands to the command line."""
    root.command(help="Transcribe recordings and write their words to standard output, or below --out.")(transcribe)
    root.command(help="List your jobs, newest first.")(jobs)
    root.command(help="Follow a job to its end.")(watch)
    root.command(help="Write a job's transcript to standard output.")(result)
    root.command(help="Cancel a job, or erase the data of one that has ended.")(cancel)


@dataclass(frozen=True, slots=True)
class _Wanted:
    options: dict[str, str]
    form: str
    out: Path | None
    wait: bool
    as_json: bool


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Recordings.", exists=True, dir_okay=False, readable=True)],
    model: Annotated[str | None, typer.Option(help="base, tiny.en, …; the server's default if not given.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1 code; detected if not given.")] = None,
    task: Annotated[str | None, typer.Option(help="transcribe or translate.")] = None,
    channels: Annotated[str | None, typer.Option(help="separate: each channel has its own words.")] = None,
    channel_labels: Annotated[str | None, typer.Option(help="Their names, as agent,customer.")] = None,
    form: Form = "text",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results, one file each.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the words, or only submit.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = "",
) -> None:
    given = {"model": model, "language": language, "task": task, "channels": channels, "channel_labels": channel_labels}
    options = {name: value for name, value in given.items() if value is not None}
    wanted = _Wanted(options, _known(form), out, wait, as_json)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    async def run(api: Api) -> int:
        gate = asyncio.Semaphore(AT_ONCE)
        with lines(quiet) as shown:

            async def one(file: Path) -> tuple[Job, bytes | None]:
                async with gate:
                    return await _transcribe(api, file, wanted, shown)

            found = await asyncio.gather(*(one(file) for file in files))
        for file, (job, data) in zip(files, found, strict=True):
            _deliver(file, job, data, wanted)
        ended_badly = [job for job, _ in found if job["state"] in ("failed", "cancelled")]
        return 1 if ended_badly else 0

    run_with(run, url, key)


async def _transcribe(api: Api, file: Path, wanted: _Wanted, shown: Lines) -> tuple[Job, bytes | None]:
    shown.say(file.name, None, "uploading")
    job = await api.submit(file, wanted.options)
    if not wanted.wait:
        return job, None
    submitted = job["job_id"]
    async for job in api.changes(submitted):
        shown.say(file.name, job)
    data = await api.result(job["job_id"], wanted.form) if job["state"] == "completed" else None
    return job, data


def _deliver(file: Path, job: Job, data: bytes | None, wanted: _Wanted) -> None:
    failure = job.get("failure")
    if failure:
        typer.echo(f"{file}: {failure['code']}: {failure['message']}", err=True)
    if data is not None and wanted.out is not None:
        (wanted.out / f"{file.name}.{ENDINGS[wanted.form]}").write_bytes(data)
    if wanted.as_json:
        typer.echo(json.dumps({"file": str(file), **job}))
    elif data is None:
        typer.echo(job["job_id"])
    elif wanted.out is None:
        _write(data)


def jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 20,
    state: Annotated[list[str] | None, typer.Option("--state", help="Only those in this state.")] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = "",
) -> None:
    async def run(api: Api) -> int:
        for job in await api.jobs(limit, state or []):
            typer.echo(json.dumps(job) if as_json else _line(job))
        return 0

    run_with(run, url, key)


def watch(job: str, as_json: AsJson = False, url: Url = HERE, key: Key = "") -> None:
    async def run(api: Api) -> int:
        current: Job = {}
        async for current in api.changes(job):
            typer.echo(json.dumps(current) if as_json else _line(current))
        return 0 if current["state"] == "completed" else 1

    run_with(run, url, key)


def result(job: str, form: Form = "text", url: Url = HERE, key: Key = "") -> None:
    known = _known(form)

    async def run(api: Api) -> int:
        _write(await api.result(job, known))
        return 0

    run_with(run, url, key)


def cancel(job: str, as_json: AsJson = False, url: Url = HERE, key: Key = "") -> None:
    async def run(api: Api) -> int:
        found = await api.cancel(job)
        typer.echo(json.dumps(found) if as_json else _line(found))
        return 0

    run_with(run, url, key)


def _line(job: Job) -> str:
    return f"{job['job_id']}  {job['state']:<10} {job['progress']:>6.0%} {job['duration']:>9.1f} s  {job['model']}"


def _known(form: str) -> str:
    if form not in ENDINGS:
        raise typer.BadParameter(f"must be one of {', '.join(ENDINGS)}", param_hint="--format")
    return form


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data if data.endswith(b"\n") else data + b"\n")
    sys.stdout.buffer.flush()


def run_with(work: Callable[[Api], Awaitable[int]], url: str, key: str) -> NoReturn:
    """Do the work with a client; its code is the program's."""
    if not key:
        typer.echo("desifre: no key. Get one (POST /generate-key?username=NAME) and put it in DESIFRE_KEY.", err=True)
        raise typer.Exit(2)

    async def main() -> int:
        async with connect(url, key) as api:
            return await work(api)

    try:
        code = asyncio.run(main())
    except Refused as error:
        typer.echo(f"desifre: {error.code}: {error}", err=True)
        code = 3
    except Unreachable as error:
        typer.echo(f"desifre: {error}", err=True)
        code = 4
    raise typer.Exit(code)
