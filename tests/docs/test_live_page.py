"""The page of live speech names what goes over the wire, all of it and nothing else; its numbers are the code's."""

import re
from pathlib import Path
from typing import get_args

import pytest

from services.contracts import live, stream
from services.contracts.jobs import Frozen
from services.ingest.http import frames, pace, wire

PAGE = (Path(__file__).parents[2] / "docs" / "live.md").read_text()
ASKED: tuple[type[Frozen], ...] = get_args(frames.Spoken)
TOLD: tuple[type[Frozen], ...] = tuple({*get_args(live.Out), live.Ready, live.Received, live.Summary} - {live.Ended})
INNER = {"type", "input", "resume", "done", "engine"}
"""What a client is not told."""


def kind(message: type[Frozen]) -> str:
    """A message's `type`."""
    return str(message.model_fields["type"].default)


def rows(heading: str) -> dict[str, str]:
    """The rows of the table under a heading: what stands in their first column, as code, and their second."""
    table = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", table.split("|---", 1)[1], re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "messages", "elsewhere"),
    [("What you send", ASKED, set()), ("What you receive", TOLD, {"error"})],
    ids=["sent", "received"],
)
def test_the_tables_are_the_messages(heading: str, messages: tuple[type[Frozen], ...], elsewhere: set[str]) -> None:
    """Each message has a row with all its fields and no others, and no row is of a message that is not there."""
    found = rows(heading)
    assert found.keys() - elsewhere == {kind(message) for message in messages}
    for message in messages:
        fields = sorted(name for name in message.model_fields if name not in INNER)
        assert sorted(re.findall(r"`(\w+)`", found[kind(message)])) == fields, kind(message)


def test_every_message_of_the_contract_is_said_by_somebody() -> None:
    """A message that is added to the contract belongs to a client, to the engine, or to the door; else it is dead."""
    messages = {
        one for one in vars(live).values() if isinstance(one, type) and issubclass(one, Frozen) and has_kind(one)
    }
    assert messages == {*ASKED, *TOLD, live.Ended}
    assert {kind(one) for one in ASKED} <= frames.MESSAGES.keys()
    assert frames.MESSAGES.keys() - {kind(one) for one in ASKED} == {"watch", "unwatch", "ping"}


def has_kind(message: type[Frozen]) -> bool:
    """Whether it goes over the wire by itself."""
    return "type" in message.model_fields


def test_codes_encodings_and_numbers() -> None:
    """Codes of closing, encodings and limits are the code's."""
    table = PAGE.split("## How it is closed\n")[1].split("\n## ")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d{4}) \|", table, re.MULTILINE)}
    assert codes == {*live.LiveClose, *stream.Close, 1006, 1009}
    for encoding in live.Encoding:
        assert f"`{encoding}`" in PAGE
    assert f"within {live.RESUME_WITHIN:g} seconds" in PAGE
    assert f"up to {wire.LARGEST >> 10} KiB" in PAGE
    assert f"up to {pace.FASTEST:g} times" in PAGE
