"""A session that lasts: what it takes of memory does not grow with it."""

import asyncio
import logging
from pathlib import Path

import aiohttp
import psutil
import pytest

from infra.stack import Stack
from tests.doors.caller import Caller
from tests.live.listening import check, digest_stack, listening, somebody, told

LOG = logging.getLogger(__name__)
LENGTH = 3600.0
PACE = 4.0
"""Times real time: the fastest at which audio is taken for long."""


def weights(stack: Stack) -> dict[str, float]:
    """MiB of each process and of what it started, shared pages divided among those that share them."""
    found: dict[str, float] = {}
    for name in ("transcriber", "ingest"):
        process = psutil.Process(stack.process(name).pid)
        found[name] = process.memory_full_info().pss / 2**20
        for child in process.children(recursive=True):
            kind = "engine" if "services.transcriber.engine.child" in child.cmdline() else "decoder"
            found[kind] = found.get(kind, 0.0) + child.memory_full_info().pss / 2**20
    return found


@pytest.mark.long
@pytest.mark.timeout(1500)
async def test_the_end_takes_no_more_than_the_first_quarter(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """Long speech at the fastest pace: no process is heavier at its end than after a quarter, but for words."""
    sound = somebody(LENGTH)
    async with digest_stack(tmp_path) as stack:
        me = await Caller(session, stack.http_url).sign_up()
        async with listening(stack, me, prompt="cells") as it:
            talking = asyncio.create_task(it.talk(sound, PACE), name="talk")
            early: dict[str, float] = {}
            late: dict[str, float] = {}
            while not it.of("summary"):
                assert await it.next()
                if not early and it.sent >= len(sound) / 4:
                    early = weights(stack)
                elif not late and it.sent >= 0.97 * len(sound):
                    late = weights(stack)
            await talking
    LOG.info("MiB after a quarter %s, at the end %s", early, late)
    check(it.of("final"), sound, dict(told(it.of("final"))))
    for name, before in early.items():
        # Finals are held by the session to its end: two to four words a second, about a kilobyte each.
        assert late[name] - before < 32, name
