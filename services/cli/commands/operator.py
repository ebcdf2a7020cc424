"""The operator's commands: the stack on this machine, and its keys.

They run `python -m infra.stack`, which is not part of the services: the command line of a machine that only sends
recordings elsewhere has no servers installed.
"""

import importlib.util
import os
import sys
from typing import Annotated, NoReturn

import typer

PASSED_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def register(root: typer.Typer) -> None:
    """Add the commands to the command line."""
    root.command(help="Start everything on this machine and stay with it until Ctrl-C.")(up)
    root.command(help="Stop everything that `up` started.")(down)
    root.command(help="Show each process: its state, pid, port, uptime, restarts.")(status)
    root.command(help="Show what the processes wrote.")(logs)
    root.command(help="Say why a job is not done, or how it ended.")(why)
    root.command(help="Cancel anybody's job; with --erase, remove its data.")(end)
    bus = typer.Typer(help="The message bus of this machine.", no_args_is_help=True)
    bus.command(help="Let the services of a tenant submit jobs over the bus, and print their password.")(grant)
    root.add_typer(bus, name="nats")
    bucket = typer.Typer(help="The bucket `drop`, and who may put recordings into it.", no_args_is_help=True)
    bucket.command(help="Make S3 credentials of a tenant's own, or new ones, and print them.")(bind)
    bucket.command("key", help="Have another key of a tenant pay, and leave its credentials as they are.")(pays)
    bucket.command(help="Take the credentials away, and have no key pay.")(unbind)
    bucket.command("list", help="Show the tenants that have some, and the keys that pay.")(bound)
    root.add_typer(bucket, name="drop")
    root.command(
        help="Make, list, revoke and import keys; show use and grant quotas.", context_settings=PASSED_THROUGH
    )(keys)
    root.command(help="Make a new pepper, under which the keys are kept; with --forget, remove the old one.")(pepper)


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Show what every process writes.")] = False,
) -> None:
    _stack("up", *(["--detach"] if detach else []), *(["--logs"] if logs else []))


def down() -> None:
    _stack("down")


def status(json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    _stack("status", *(["--json"] if json else []))


def logs(
    service: Annotated[
        str | None, typer.Argument(help="nats, s3, keys, ingest or transcriber; all if not given.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new ones.")] = False,
) -> None:
    _stack("logs", *([service] if service else []), "--lines", str(lines), *(["--follow"] if follow else []))


def why(job: Annotated[str, typer.Argument(help="Its id, `job_…`, whoever's it is.")]) -> None:
    _stack("exec", "ingest-admin", "--", "why", job)


def end(
    job: Annotated[str, typer.Argument(help="Its id, `job_…`, whoever's it is.")],
    erase: Annotated[bool, typer.Option("--erase", help="Remove its recording and its transcript too.")] = False,
) -> None:
    _stack("exec", "ingest-admin", "--", "end", job, *(["--erase"] if erase else []))


def grant(tenant: Annotated[str, typer.Argument(help="As `desifre keys list` shows it.")]) -> None:
    _stack("nats-grant", tenant)


def bind(
    tenant: Annotated[str, typer.Argument(help="As `desifre keys list` shows it.")],
    key: Annotated[
        str | None, typer.Option(help="Id of the key that pays; the one that does already, or the tenant's only one.")
    ] = None,
) -> None:
    _stack("drop-bind", tenant, *(["--key", key] if key else []))


def pays(
    tenant: Annotated[str, typer.Argument(help="As `desifre drop list` shows it.")],
    key: Annotated[str, typer.Argument(help="Id of one of its keys.")],
) -> None:
    _stack("drop-key", tenant, key)


def unbind(tenant: Annotated[str, typer.Argument(help="As `desifre drop list` shows it.")]) -> None:
    _stack("drop-unbind", tenant)


def bound() -> None:
    _stack("drop-list")


def keys(context: typer.Context) -> None:
    _stack("exec", "keys-admin", "--", *context.args)


def pepper(
    forget: Annotated[bool, typer.Option("--forget", help="Remove the pepper before the last one.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --forget: though keys end by it.")] = False,
) -> None:
    _stack("pepper", *(["--forget"] if forget else []), *(["--force"] if force else []))


def _stack(*arguments: str) -> NoReturn:
    """Become `python -m infra.stack`: its signals, its output and its exit code are this program's."""
    if importlib.util.find_spec("infra") is None:
        typer.echo("desifre: the stack is not installed here: pip install 'desifre[embedded]'.", err=True)
        raise typer.Exit(1)
    # -P: a folder `infra` in the working directory must not be taken for ours.
    command = [sys.executable, "-P", "-m", "infra.stack", *arguments]
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - no shell is meant
