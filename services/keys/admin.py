"""The operator's commands: `desifre keys …`, in containers `python -m services.keys.admin …`.

They work on the database itself, so the service may run or not.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import nats
import typer
from sqlalchemy.engine import make_url

from services.contracts import subjects
from services.contracts.auth import DEFAULT_SCOPES, KeyRef, Revoked, Scope
from services.contracts.errors import Problem
from services.keys.operator import OldUser, Operator
from services.keys.payers import Payers
from services.keys.service import KeyService
from services.keys.settings import DAY, HOUR, KeysSettings
from services.keys.store import Store, open_store
from services.runtime.jsapi import AWAY
from services.runtime.metrics import Metrics
from services.runtime.settings import BadSettings, read

T = TypeVar("T")
NOT_TOLD = "The bus is not there: who verified the key just now may take it for a minute more."
HELP = "Keys, quotas and usage. The service may run or not."
TENANT = "As `desifre keys list` shows it."
commands = typer.Typer(no_args_is_help=True, add_completion=False, help=HELP)


class Desk:
    """What a command works with."""

    def __init__(self, settings: KeysSettings, store: Store) -> None:
        issued = Metrics().counter("keys_issued", "API keys made", ["how"])
        self.settings = settings
        self.peppers = settings.peppers
        self.operator = Operator(store, self.peppers, settings)
        self.keys = KeyService(store, self.peppers, settings, self._announce, issued)
        self.payers = Payers(store, self.peppers, settings)

    async def _announce(self, key_id: str) -> None:
        """Tell the service if it runs; whoever is not told remembers a key for a minute at most."""
        login = {"user": self.settings.nats_user, "password": self.settings.nats_password.get_secret_value()}
        login |= {"inbox_prefix": subjects.inbox(self.settings.nats_user)} if self.settings.nats_user else {}
        try:
            nc = await nats.connect(
                self.settings.nats_url,
                **login,
                connect_timeout=2,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.1,
                error_cb=_quiet,
            )
            await nc.publish(subjects.KEYS_REVOKED, Revoked(key_id=key_id).encode())
            await nc.drain()
        except AWAY:
            typer.echo(NOT_TOLD, err=True)


async def _quiet(_: Exception) -> None:
    """Whatever goes wrong is raised as well."""


def _settings() -> KeysSettings:
    try:
        return read(KeysSettings)
    except BadSettings as wrong:
        typer.echo(str(wrong), err=True)
        raise typer.Exit(1) from None


def _do(work: Callable[[Desk], Awaitable[T]]) -> T:
    settings = _settings()

    async def main() -> T:
        async with open_store(settings.keys_database_url) as store:
            return await work(Desk(settings, store))

    try:
        return asyncio.run(main())
    except Problem as problem:
        typer.echo(problem.detail or f"{problem.kind.title}. {problem.kind.remedy}", err=True)
        raise typer.Exit(1) from None


def _show(header: str, rows: Sequence[Sequence[str]]) -> None:
    """A line for each row, below one that names the columns: aligned for people, with tabs for programs."""
    table = [header.split(), *rows]
    if not sys.stdout.isatty():
        typer.echo("\n".join("\t".join(row) for row in table))
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _day(moment: float | None) -> str:
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%MZ")


@commands.command("import")
def take_over(
    users_db: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The old service's database.")],
) -> None:
    """Take over the keys of the old service from its users.db. May be repeated."""
    with contextlib.closing(sqlite3.connect(f"{users_db.absolute().as_uri()}?mode=ro", uri=True)) as old:
        try:
            rows = old.execute("SELECT username, api_key FROM users ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            typer.echo(f"{users_db} is not a users.db of the old service: {error}.", err=True)
            raise typer.Exit(1) from None
    users = [OldUser(str(username or ""), str(api_key or "")) for username, api_key in rows]
    new, known, unusable = _do(lambda desk: desk.operator.take_over(users))
    typer.echo(f"{new} taken over, {known} known already, {unusable} unusable")


@commands.command("list")
def list_keys(tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None) -> None:
    """Every key: id, tenant, user, scopes, made, last used, expiry, state."""

    async def work(desk: Desk) -> None:
        now = datetime.now(UTC).timestamp()
        rows, signing = [], await desk.operator.signing_by_previous()
        for owner, key in await desk.operator.keys(tenant):
            state = "revoked" if key.revoked else "expired" if not key.live(now) else "works"
            if key.live(now) and key.deprecated:
                state = "rotated"
            if key.pepper != desk.peppers.current.version:
                state += ", previous pepper" if key.pepper in desk.peppers.versions else ", pepper lost"
            if key.id in signing:
                state += ", webhook secret of the previous pepper"
            times = (_day(key.created), _day(key.last_used), _day(key.expires))
            rows.append((key.id, owner.id, owner.username, key.scopes.replace(" ", ","), *times, state))
        _show("KEY TENANT USER SCOPES MADE USED EXPIRES STATE", rows)

    _do(work)


@commands.command()
def create(
    username: Annotated[str, typer.Option(help="Label of the new tenant.")],
    scopes: Annotated[str | None, typer.Option(help="Separated by commas; all but admin unless said.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="The scope admin as well.")] = False,
    days: Annotated[float | None, typer.Option(help="Until it expires; 0: never. A year unless said.")] = None,
) -> None:
    """Make a tenant with a key, whatever the sign-up mode. The key is shown this once."""
    try:
        wanted = [Scope(word.strip()) for word in scopes.split(",")] if scopes else list(DEFAULT_SCOPES)
    except ValueError:
        raise typer.BadParameter("Scopes are " + ", ".join(scope.value for scope in Scope) + ".") from None
    wanted += [Scope.ADMIN] if admin else []

    async def work(desk: Desk) -> None:
        lifetime = desk.settings.key_lifetime if days is None else days * DAY or None
        made = await desk.operator.create(username, wanted, lifetime)
        typer.echo(f"api_key\t{made.api_key}\nkey_id\t{made.key_id}\ntenant\t{made.tenant}")
        typer.echo(f"scopes\t{','.join(made.scopes)}\nexpires\t{_day(made.expires)}")

    _do(work)


@commands.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Its id, as `desifre keys list` shows it, not the key itself.")],
) -> None:
    """End a key at once, in the running service too."""

    async def work(desk: Desk) -> None:
        await desk.keys.revoke(KeyRef(tenant=await desk.operator.tenant_of(key_id), key_id=key_id))
        typer.echo(f"{key_id} revoked")

    _do(work)


@commands.command()
def quota(
    tenant: Annotated[str, typer.Argument(help=TENANT)],
    hours: Annotated[float | None, typer.Option(min=0, help="Of audio a day.")] = None,
    jobs: Annotated[int | None, typer.Option(min=0, help="Unfinished at once.")] = None,
    stored: Annotated[int | None, typer.Option("--bytes", min=0, help="Of stored recordings.")] = None,
    streams: Annotated[int | None, typer.Option(min=0, help="Sockets and event streams open at once.")] = None,
) -> None:
    """Grant a tenant something else than the starter quota. What is not named stays as it is."""
    seconds = None if hours is None else hours * HOUR
    _do(lambda desk: desk.operator.set_quota(tenant, seconds, jobs, stored, streams))
    typer.echo(f"{tenant} granted")


@commands.command("drop-key")
def drop_key(
    tenant: Annotated[str | None, typer.Argument(help=f"{TENANT} Without it all are shown.")] = None,
    key: Annotated[str | None, typer.Option(help="Id of the key; the tenant's only one unless said.")] = None,
    none: Annotated[bool, typer.Option("--none", help="No key pays any more.")] = False,
) -> None:
    """Name the key that pays for what lies in a tenant's part of the bucket `drop`."""

    async def work(desk: Desk) -> None:
        if tenant is None:
            for owner, named, works in await desk.payers.every():
                typer.echo(f"{owner}\t{named}\t{'works' if works else 'ended'}")
        elif none:
            await desk.payers.forget(tenant)
        else:
            typer.echo(f"{tenant}\t{await desk.payers.name(tenant, key)}\tworks")

    _do(work)


@commands.command(hidden=True)
def unmoved(
    revoke: Annotated[bool, typer.Option("--revoke", help="End those keys, where no service runs.")] = False,
) -> None:
    """For `desifre pepper`, what works by another pepper than the present one: keys, keys that sign, invitations."""

    async def work(desk: Desk) -> str:
        if revoke:
            return f"{await desk.operator.revoke_unmoved()} revoked"
        current = desk.peppers.current.version
        keys = sum(n for version, n in (await desk.operator.by_pepper()).items() if version != current)
        signing, invited = await desk.operator.signing_by_previous(), await desk.operator.invited_by_previous()
        return f"{keys} {len(signing)} {invited}"

    typer.echo(_do(work))


@commands.command()
def usage() -> None:
    """What each tenant uses of its quota: tenant, user, hours of audio today, unfinished jobs, bytes stored."""

    async def work(desk: Desk) -> None:
        rows = []
        for tenant, seconds in await desk.operator.usage():
            quota = tenant.quota(desk.settings.starter_quota)
            hours = f"{seconds / HOUR:.2f}/{quota.audio_seconds_per_day / HOUR:g} h"
            jobs = f"{tenant.unfinished}/{quota.unfinished_jobs} jobs"
            rows.append((tenant.id, tenant.username, hours, jobs, f"{tenant.bytes}/{quota.bytes} bytes"))
        _show("TENANT USER TODAY UNFINISHED STORED", rows)

    _do(work)


@commands.command()
def invite(uses: Annotated[int, typer.Option(min=1, help="Sign-ups that it is good for.")] = 1) -> None:
    """Make an invitation for `DESIFRE_SIGNUP=invite`. It is shown this once."""
    typer.echo(_do(lambda desk: desk.operator.invite(uses)))


@commands.command()
def backup(target: Annotated[Path, typer.Argument(help="A file that is not there yet.")]) -> None:
    """Copy the database (SQLite) as of one moment, while the service runs. Keep the pepper elsewhere."""
    source = make_url(_settings().keys_database_url)
    if source.get_backend_name() != "sqlite" or not source.database:
        typer.echo("This database has its own tools for that: use pg_dump.", err=True)
        raise typer.Exit(1)
    if target.exists():
        typer.echo(f"{target} is there already; name a file that is not.", err=True)
        raise typer.Exit(1)
    with (
        contextlib.closing(sqlite3.connect(source.database)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)
    target.chmod(0o600)
    typer.echo(f"copied to {target}")


if __name__ == "__main__":
    commands(prog_name="desifre keys")
