"""The page of live speech names what goes over the wire, and its numbers are those of the code."""

import re
from pathlib import Path

import pytest

from services.contracts import live
from services.contracts.jobs import Frozen
from services.ingest.http import call, socket

PAGE = (Path(__file__).parents[2] / "docs" / "live.md").read_text()
ASKED = (live.Start, live.Resume, live.Finalize, live.KeepAlive, live.CloseStream)
TOLD = (
    *(live.Ready, live.Received, live.Claimed, live.SpeechStarted, live.Interim),
    *(live.Final, live.UtteranceEnd, live.Lag, live.Summary),
)
INNER = {"type", "input", "resume", "engine"}
"""What a client is not told."""


def kind(message: type[Frozen]) -> str:
    """A message's `type`."""
    return str(message.model_fields["type"].default)


@pytest.mark.parametrize("message", [*ASKED, *TOLD], ids=kind)
def test_each_message_stands_in_a_table_with_its_fields(message: type[Frozen]) -> None:
    """The row of a message names all its fields and no others."""
    row = re.search(rf"^\| `{kind(message)}` \|([^|]*)\|", PAGE, re.MULTILINE)
    assert row is not None
    assert sorted(re.findall(r"`(\w+)`", row[1])) == sorted(name for name in message.model_fields if name not in INNER)


def test_codes_encodings_and_numbers() -> None:
    """Codes of closing, encodings and limits are the code's."""
    for code in (live.LiveClose.DONE, live.LiveClose.FULL, live.LiveClose.TAKEN, live.LiveClose.BROKEN):
        assert str(code.value) in PAGE
    for encoding in live.Encoding:
        assert f"`{encoding}`" in PAGE
    assert f"within {live.RESUME_WITHIN:g} seconds" in PAGE
    assert f"up to {socket.LARGEST >> 10} KiB" in PAGE
    assert f"up to {call.FASTEST:g} times" in PAGE
