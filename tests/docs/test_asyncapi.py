"""The AsyncAPI document: whole, true of what is on the bus, and of the messages that are sent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from infra.nats import permissions
from services.contracts import subjects
from services.contracts.jobs import Door, Lane, Manifest, Options
from services.contracts.live import UtteranceEnd
from services.contracts.submit import Rejected
from services.runtime.records import fresh
from services.runtime.streams import stream_configs
from tests.docs.pages import DOCS

DOCUMENT: dict[str, Any] = json.loads((DOCS / "asyncapi.json").read_text())


def references(part: Any) -> Iterator[str]:
    """Every `$ref` anywhere below."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def follow(reference: str) -> Any:
    """What a reference leads to. Raises KeyError."""
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def payload(channel: str, message: str = "message") -> Draft202012Validator:
    """A validator of the messages of this channel, or of one kind of them."""
    reference = follow(DOCUMENT["channels"][channel]["messages"][message]["$ref"])["payload"]["$ref"]
    return Draft202012Validator({"$ref": reference, "components": DOCUMENT["components"]})


def test_every_reference_leads_somewhere() -> None:
    """The document is whole: no reference is dead, every operation has a channel, every channel a message."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    for reference in references(DOCUMENT):
        assert follow(reference) is not None, reference
    for name, operation in DOCUMENT["operations"].items():
        assert operation["action"] in ("send", "receive"), name
    used = {one["channel"]["$ref"] for one in DOCUMENT["operations"].values()}
    used |= {one["reply"]["channel"]["$ref"] for one in DOCUMENT["operations"].values() if "reply" in one}
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}


def test_every_variable_in_an_address_is_described() -> None:
    """An address and its parameters name the same variables."""
    for name, channel in DOCUMENT["channels"].items():
        address = channel["address"] or ""
        named = {step[1:-1] for step in address.split(".") if step.startswith("{")}
        assert named == channel.get("parameters", {}).keys(), name


def test_every_subject_of_a_stream_is_in_it() -> None:
    """What the streams take in, and what a tenant's services read and write, is described."""
    addresses = [one["address"] for one in DOCUMENT["channels"].values() if one["address"]]
    patterns = {".".join("*" if step.startswith("{") else step for step in one.split(".")) for one in addresses}
    for config in stream_configs():
        if not config["name"].startswith("KV_"):
            # That of live sessions takes in more than one kind of subject.
            assert config["subjects"] == [subjects.ALL_LIVE] or set(config["subjects"]) <= patterns, config["name"]
    assert subjects.ALL_STATES in patterns
    assert {subjects.ALL_LIVE_OPEN, subjects.ALL_LIVE_DONE, "live.*.audio", "live.*.out"} <= patterns
    keys = permissions.table()["keys"].subscribe
    assert "keys.v1.>" in keys
    endpoints = {value for value in vars(subjects).values() if str(value).startswith("keys.v1.")}
    assert endpoints <= set(addresses)


@pytest.mark.parametrize(
    ("message", "good"),
    [
        ({"id": "1", "audio": "QUJD", "callback_url": "https://example.com/hook"}, True),
        ({"id": "1", "object": "t/a.wav", "lane": "interactive", "options": {"language": "tr"}}, True),
        ({"audio": "QUJD"}, False),
        ({"id": "1", "audio": "QUJD", "tenant": "somebody"}, False),
        ({"id": "1", "audio": "QUJD", "lane": "live"}, False),
    ],
)
def test_its_schema_of_submissions_takes_what_the_door_takes(message: dict[str, Any], good: bool) -> None:
    """A validator that a publisher makes of it agrees with the door."""
    assert payload("submit").is_valid(message) is good


def test_its_schemas_take_what_is_sent() -> None:
    """A record, a rejection and what is heard live, as they are encoded, are valid."""
    manifest = Manifest(
        job="job_0",
        tenant="t" * 16,
        key_id="nats",
        user="u",
        door=Door.NATS,
        lane=Lane.BATCH,
        options=Options(model="base"),
        sha256="0" * 64,
        size=1,
        created=1.0,
        external_id="1",
    )
    rejected = Rejected(code="empty_file", sentence="s", remedy="r")
    said = UtteranceEnd(position=1.0, last_word_end=0.5)
    for channel, kind, message in (
        ("state", "message", fresh(manifest)),
        ("rejected", "message", rejected),
        ("liveOut", "utterance_end", said),
    ):
        found = json.loads(message.encode())
        payload(channel, kind).validate(found)
        first = next(iter(found))
        assert not payload(channel, kind).is_valid({**found, first: {"not": "so"}})
