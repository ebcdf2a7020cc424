"""The operator's commands on anybody's job and on who reads on the bus: `python -m services.ingest.admin …`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from services.contracts.events import Record
from services.contracts.ids import is_job_id, is_tenant
from services.ingest.engines import Engines
from services.ingest.erase import Eraser
from services.ingest.jobs import Jobs
from services.ingest.queue import Queue
from services.ingest.settings import Settings
from services.ingest.submit import make_readers
from services.ingest.why import look, sentences
from services.runtime import logs
from services.runtime.blobs import open_blobs
from services.runtime.bus import connect_bus
from services.runtime.jsapi import AWAY, Unavailable
from services.runtime.lifecycle import Tasks
from services.runtime.records import Records
from services.runtime.settings import BadSettings, read

PATIENCE = 30.0
"""Seconds for the bus and the store to answer."""


class Refused(Exception):  # noqa: N818 - what it is
    """Why nothing was done, as a sentence."""


async def why(settings: Settings, job: str) -> str:
    """What a job waits for, or how it ended."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect_bus(settings))
        records = Records(bus, await stack.enter_async_context(open_blobs(settings)))
        engines = Engines(bus, await stack.enter_async_context(Tasks(asyncio.Event())))
        seen = await look(bus, records, Queue(bus, engines, records), engines, await _record(records, job))
        return "\n".join(sentences(seen))


async def end(settings: Settings, job: str, *, erase: bool) -> str:
    """Cancel a job that has not ended; with `erase`, remove the data of one that has."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connect_bus(settings))
        blobs = await stack.enter_async_context(open_blobs(settings))
        records = Records(bus, blobs)
        record = await _record(records, job)
        if record.state.terminal and not erase:
            raise Refused(f"{job} is {record.state} already; `--erase` removes its data.")
        jobs = Jobs(bus, blobs, records, Eraser(blobs, records))
        after = await jobs.cancel_or_erase(record.tenant, job)
        if erase and not record.state.terminal:
            after = await jobs.cancel_or_erase(record.tenant, job)
        return f"{job} is {after.state}."


async def readers(settings: Settings, tenant: str) -> str:
    """Make the consumers by which a tenant's own services read what becomes of its jobs."""
    async with connect_bus(settings) as bus:
        await bus.ensure_streams()
        await make_readers(bus, tenant)
        return f"{tenant} may read."


async def _record(records: Records, job: str) -> Record:
    tenant = next((tenant for tenant, one in await records.every() if one == job), None)
    record = await records.get(tenant, job) if tenant else None
    if record is None:
        raise Refused(f"There is no record of {job}: it was never admitted, or it ended more than 30 days ago.")
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """The commands. Exit codes: 0 done, 1 said why not, 2 wrong usage."""
    asked = _parser().parse_args(arguments)
    logs.configure("admin", "error", "console")

    async def work() -> str:
        settings = read(Settings)
        async with asyncio.timeout(PATIENCE):
            match asked.command:
                case "why":
                    return await why(settings, asked.job)
                case "readers":
                    return await readers(settings, asked.tenant)
                case _:
                    return await end(settings, asked.job, erase=asked.erase)

    try:
        sys.stdout.write(asyncio.run(work()) + "\n")
    except (Refused, BadSettings) as told:
        sys.stderr.write(f"{told}\n")
    except (Unavailable, *AWAY) as away:
        sys.stderr.write(f"{str(away) or 'The bus or the store does not answer'}: `desifre status`.\n")
    else:
        return 0
    return 1


def _job(text: str) -> str:
    if not is_job_id(text):
        raise argparse.ArgumentTypeError("a job's id is job_ and 26 characters")
    return text


def _tenant(text: str) -> str:
    if not is_tenant(text):
        raise argparse.ArgumentTypeError("a tenant is 16 small letters and digits")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="desifre", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    asks = commands.add_parser("why", help="say why a job is not done, or how it ended")
    ends = commands.add_parser("end", help="cancel a job, whoever's it is")
    ends.add_argument("--erase", action="store_true", help="and remove its data")
    makes = commands.add_parser("readers", help="make the consumers of a tenant that was let onto the bus")
    makes.add_argument("tenant", type=_tenant)
    for command in (asks, ends):
        command.add_argument("job", type=_job)
    return parser


if __name__ == "__main__":
    sys.exit(main())
