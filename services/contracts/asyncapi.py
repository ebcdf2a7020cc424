"""The AsyncAPI 3 document of the bus: its subjects and messages, from the contracts themselves.

The application that it describes is the service as a whole: it receives what others send it, and sends what it tells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from services.contracts import subjects
from services.contracts.auth import (
    Admit,
    Claims,
    CreateKey,
    Granted,
    KeyInfo,
    KeyList,
    KeyRef,
    NewKey,
    NewSecret,
    Payer,
    Reserve,
    Revoked,
    Secrets,
    SetCallback,
    Usage,
    UsageRequest,
    Verify,
)
from services.contracts.callbacks import CallbackWork
from services.contracts.events import Record, SegmentsEvent
from services.contracts.jobs import Frozen, Lane, Outcome
from services.contracts.live import OFFSET, OP, Op, Out, Session
from services.contracts.parts import JobWork, PartWork
from services.contracts.submit import TRACEPARENT, Rejected, Submit

_SCHEMAS = "#/components/schemas/"
_TRACE = {
    "type": "object",
    "properties": {
        TRACEPARENT: {"type": "string", "description": "W3C trace context of the submission, if it had one"},
    },
}
_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "tenant": {"description": "whose job it is: 16 small letters and digits"},
    "job": {"description": "id of the job"},
    "lane": {"description": "how urgent", "enum": [lane.value for lane in Lane]},
    "n": {"description": "number of the part, from 0"},
    "session": {"description": "id of the live session, which is the job's"},
}
_INPUT = {
    "type": "object",
    "properties": {
        OFFSET: {"type": "string", "description": "bytes of audio before this message"},
        OP: {"enum": [op.value for op in Op], "description": "what a message without audio asks for"},
    },
    "required": [OFFSET],
}


@dataclass(frozen=True, slots=True)
class _Channel:
    """One subject: `action` is what the service does there; `inner` is for the service's own processes alone.

    `variants`: one of these in place of one `message`, told apart by `type`. `headers` stand for those of a trace.
    """

    name: str
    address: str
    action: str
    message: type[Frozen] | None
    text: str
    stream: str | None = None
    reply: type[Frozen] | None = None
    inner: bool = False
    traced: bool = False
    variants: tuple[type[Frozen], ...] = ()
    headers: Mapping[str, Any] | None = None
    content: str | None = None


def _channels() -> Iterable[_Channel]:
    lane, tenant, job = "{lane}", "{tenant}", "{job}"
    yield _Channel(
        *("submit", subjects.submit(tenant), "receive", Submit, "A recording to be transcribed."),
        stream=subjects.SUBMIT,
        traced=True,
    )
    yield _Channel(
        *("rejected", subjects.rejected(tenant), "send", Rejected, "A submission that became no job, and why."),
        stream=subjects.REJECTED,
    )
    yield _Channel(
        *(
            "state",
            subjects.state(tenant, job),
            "send",
            Record,
            "A job after each change; some may coalesce, the last never.",
        ),
        stream=subjects.RESULTS,
        traced=True,
    )
    yield _Channel(
        *("segments", subjects.segments(tenant, job), "send", SegmentsEvent, "The words of one finished part."),
        stream=subjects.RESULTS,
        traced=True,
    )
    yield _Channel(
        *("dead", subjects.dead(tenant, job), "send", Outcome, "A job that failed by our fault."),
        stream=subjects.DEAD,
        traced=True,
    )
    yield _Channel(
        *("storeDrop", subjects.STORE_DROP, "receive", None, "New objects in the bucket `drop`, in S3's own shape."),
        stream=subjects.STORE,
    )
    yield _Channel(
        *("jobs", subjects.job(lane, tenant, job), "send", JobWork, "A job to be prepared."),
        stream=subjects.JOBS,
        inner=True,
        traced=True,
    )
    part = subjects.part(lane, tenant, job, 0).removesuffix("0") + "{n}"
    yield _Channel(
        *("parts", part, "send", PartWork, "A part to be transcribed."),
        stream=subjects.PARTS,
        inner=True,
        traced=True,
    )
    yield _Channel(
        *("callbacks", subjects.callback(lane, tenant, job), "send", CallbackWork, "An end that somebody is told of."),
        stream=subjects.CALLBACKS,
        inner=True,
        traced=True,
    )
    yield _Channel(
        *("cancel", subjects.cancel(tenant, job), "send", None, "A hint that this job was cancelled; empty."),
        inner=True,
    )
    yield from _live("{session}")
    yield _Channel(*("revoked", subjects.KEYS_REVOKED, "send", Revoked, "A key that works no more."), inner=True)
    for subject, ask, answer in (
        (subjects.KEYS_VERIFY, Verify, Claims),
        (subjects.KEYS_CREATE, CreateKey, NewKey),
        (subjects.KEYS_LIST, KeyRef, KeyList),
        (subjects.KEYS_ROTATE, KeyRef, NewKey),
        (subjects.KEYS_REVOKE, KeyRef, KeyInfo),
        (subjects.KEYS_CALLBACK, SetCallback, KeyInfo),
        (subjects.KEYS_SIGN_ANEW, KeyRef, NewSecret),
        (subjects.KEYS_SIGNING, KeyRef, Secrets),
        (subjects.KEYS_PAYER, Payer, Claims),
        (subjects.KEYS_USAGE, UsageRequest, Usage),
        (subjects.KEYS_ADMIT, Admit, Granted),
        (subjects.KEYS_RESERVE, Reserve, Granted),
    ):
        name = "keys" + subject.rsplit(".", 1)[1].title().replace("-", "")
        yield _Channel(name, subject, "receive", ask, "A request to keys.", reply=answer, inner=True)


def _live(session: str) -> Iterable[_Channel]:
    """What ingest and transcriber say to one another; clients hear it over WebSocket, see docs/live.md."""
    for name, subject, message, text in (
        ("liveOpen", subjects.live_open(session), Session, "A live session, to be heard by whoever claims it."),
        ("liveDone", subjects.live_done(session), None, "The session's job has its outcome; empty."),
    ):
        yield _Channel(name, subject, "send", message, text, stream=subjects.LIVE, inner=True)
    yield _Channel(
        *(
            "liveAudio",
            subjects.live_audio(session),
            "send",
            None,
            "A piece of what a client sends.",
        ),
        stream=subjects.LIVE,
        inner=True,
        headers=_INPUT,
        content="application/octet-stream",
    )
    yield _Channel(
        *("liveOut", subjects.live_out(session), "send", None, "What is heard."),
        stream=subjects.LIVE,
        inner=True,
        variants=get_args(Out),
    )


def document(version: str) -> dict[str, Any]:
    """The document, as JSON takes it; `version` is that of the service."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    models = {
        one for channel in _channels() for one in (channel.message, channel.reply, *channel.variants) if one is not None
    }
    for channel in _channels():
        stream = f" On the stream {channel.stream}." if channel.stream else " Not on any stream."
        inner = " For the service's own processes." if channel.inner else ""
        channels[channel.name] = _channel(channel, f"{channel.text}{stream}{inner}")
        for name, model in _messages_of(channel).values():
            messages[name] = _message(model, channel.text, channel)
        operation = {"action": channel.action, "channel": {"$ref": f"#/channels/{channel.name}"}}
        if channel.reply is not None:
            answer = f"{channel.name}Reply"
            messages[answer] = _message(channel.reply, "The answer.")
            channels[answer] = {
                "address": None,
                "description": "The inbox that the request named.",
                "messages": {"message": {"$ref": f"#/components/messages/{answer}"}},
            }
            operation["reply"] = {"channel": {"$ref": f"#/channels/{answer}"}}
        operations[f"{channel.action}{channel.name[0].upper()}{channel.name[1:]}"] = operation
    pairs = [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(pairs, ref_template=_SCHEMAS + "{model}")  # type: ignore[arg-type]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "desifre on NATS",
            "version": version,
            "description": "Generated from services/contracts. What a tenant's own services may do: docs/nats.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "bus": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The address that `desifre nats grant` prints.",
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": schemas["$defs"],
            "securitySchemes": {"user": {"type": "userPassword", "description": "user and password of NATS"}},
        },
    }


def _messages_of(channel: _Channel) -> dict[str, tuple[str, type[Frozen] | None]]:
    """Of each message of a channel its name there, and that among all messages, with its model."""
    if not channel.variants:
        return {"message": (channel.name, channel.message)}
    return {
        kind: (channel.name + "".join(word.title() for word in kind.split("_")), model)
        for model in channel.variants
        for kind in [str(model.model_fields["type"].default)]
    }


def _channel(channel: _Channel, text: str) -> dict[str, Any]:
    parameters = {name: one for name, one in _PARAMETERS.items() if f"{{{name}}}" in channel.address}
    return {
        "address": channel.address,
        "description": text,
        "messages": {
            key: {"$ref": f"#/components/messages/{name}"} for key, (name, _) in _messages_of(channel).items()
        },
        **({"parameters": parameters} if parameters else {}),
    }


def _message(model: type[Frozen] | None, text: str, channel: _Channel | None = None) -> dict[str, Any]:
    headers = None if channel is None else channel.headers or (_TRACE if channel.traced else None)
    return {
        "summary": text,
        **({"headers": headers} if headers else {}),
        **({"contentType": channel.content} if channel is not None and channel.content else {}),
        **({"payload": {"$ref": _SCHEMAS + model.__name__}} if model is not None else {}),
    }
