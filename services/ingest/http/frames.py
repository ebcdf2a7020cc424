"""What a client asks on `/ws`: text frames, each a JSON object with a `type`. Pure."""

import json

from pydantic import ValidationError

from services.contracts.errors import Code, Problem
from services.contracts.live import CloseStream, Finalize, KeepAlive, Resume, Start
from services.contracts.stream import Ping, Unwatch, Watch

Spoken = Start | Resume | Finalize | KeepAlive | CloseStream
"""What belongs to a live session."""
Asked = Watch | Unwatch | Ping | Spoken
MESSAGES: dict[str, type[Asked]] = {
    "watch": Watch,
    "unwatch": Unwatch,
    "ping": Ping,
    "start": Start,
    "resume": Resume,
    "finalize": Finalize,
    "keepalive": KeepAlive,
    "close": CloseStream,
}


def asked(data: str) -> Asked:
    """A client's message. Raises `Problem` MALFORMED, whose detail names the fields that are wrong."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Problem(Code.MALFORMED, "A message is a JSON object.") from None
    kind = str(document.get("type")) if isinstance(document, dict) else ""
    if kind not in MESSAGES:
        raise Problem(Code.MALFORMED, f"The `type` of a message is {', '.join(MESSAGES)}.")
    try:
        return MESSAGES[kind].model_validate(document)
    except ValidationError as error:
        wrong = sorted({str(one["loc"][0])[:64] for one in error.errors(include_input=False) if one["loc"]})
        named = ", ".join(f"`{name}`" for name in wrong)
        takes = ", ".join(name for name in MESSAGES[kind].model_fields if name != "type")
        raise Problem(Code.MALFORMED, f"Wrong in `{kind}`: {named}. It takes {takes or 'no fields'}.") from None
