"""The page of streamed results names what goes over the wire, and its numbers are those of the code."""

import re
from pathlib import Path

import pytest

from services.contracts import stream
from services.contracts.jobs import Frozen
from services.ingest import tickets
from services.ingest.http import streams, wire

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
ASKED = (stream.Watch, stream.Unwatch, stream.Ping)
TOLD = (
    *(stream.Watching, stream.Event, stream.Unwatched, stream.Resync),
    *(stream.Error, stream.Closing, stream.Pong),
)


def kind(message: type[Frozen]) -> str:
    """A message's `type`."""
    return str(message.model_fields["type"].default)


@pytest.mark.parametrize("message", [*ASKED, *TOLD], ids=kind)
def test_each_message_stands_in_a_table_with_its_fields(message: type[Frozen]) -> None:
    """The row of a message names all its fields and no others."""
    row = re.search(rf"^\| `{kind(message)}` \|([^|]*)\|", PAGE, re.MULTILINE)
    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == [name for name in message.model_fields if name != "type"]


def test_no_table_has_a_message_that_is_none() -> None:
    """Every message of the two tables is one of the contracts."""
    tables = PAGE.split("## What you send")[1].split("| `kind` |")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE)) - {"type"}
    assert named == {kind(message) for message in (*ASKED, *TOLD)}


def test_kinds_codes_and_numbers() -> None:
    """Kinds of events, codes of closing, sub-protocol and limits are the code's."""
    for word in (*stream.Kind, stream.PROTOCOL):
        assert f"`{word}" in PAGE
    for code in stream.Close:
        assert f"| {code.value} | `{code.name.lower()}` |" in PAGE
    assert f"within {tickets.LIFETIME:g} seconds" in PAGE
    assert f"up to {wire.LARGEST >> 10} KiB" in PAGE
    assert f"you took nothing for {wire.STUCK:g} seconds" in PAGE
    assert f"did not answer a ping for {wire.HEARTBEAT / 2:g} (one comes every {wire.HEARTBEAT:g})" in PAGE
    assert f"A comment comes every {streams.HEARTBEAT:g} seconds" in PAGE
