"""The bus of a home that an earlier version of the service wrote."""

from pathlib import Path

from infra.nats.adopt import SET_ASIDE, WITHOUT_ACCOUNTS
from infra.nats.config import ACCOUNT
from infra.stack import Stack
from services.contracts import subjects
from services.runtime.bus import connect_bus
from tests.support import operator_of


async def test_streams_from_before_there_were_accounts_go_on(tmp_path: Path) -> None:
    """A submission that waited on the disk of an earlier version's bus waits on today's, at every start."""
    async with Stack(tmp_path, services=["nats"]) as stack, connect_bus(operator_of(stack)) as bus:
        await bus.ensure_streams()
        await bus.js.publish(subjects.submit("t" * 16), b"waits")
    kept = tmp_path / "nats" / "jetstream"
    (kept / ACCOUNT).rename(kept / WITHOUT_ACCOUNTS)
    for _ in range(2):
        async with Stack(tmp_path, services=["nats"]) as stack, connect_bus(operator_of(stack)) as bus:
            await bus.ensure_streams()
            message = await bus.js.get_last_msg(subjects.SUBMIT, subjects.submit("t" * 16))
            assert message.data == b"waits"


async def test_streams_that_cannot_be_taken_over_keep_nobody_from_starting(tmp_path: Path) -> None:
    """Where both versions have written, today's streams are used, and the old ones are set aside, not removed."""
    async with Stack(tmp_path, services=["nats"]) as stack, connect_bus(operator_of(stack)) as bus:
        await bus.ensure_streams()
    kept = tmp_path / "nats" / "jetstream"
    old = kept / WITHOUT_ACCOUNTS / "streams" / subjects.CALLBACKS
    old.mkdir(parents=True)
    async with Stack(tmp_path, services=["nats"]) as stack, connect_bus(operator_of(stack)) as bus:
        assert await bus.js.stream_info(subjects.SUBMIT)
    assert (tmp_path / "nats" / SET_ASIDE / "streams" / subjects.CALLBACKS).is_dir()
