"""Who may publish and subscribe to what on the embedded bus."""

from collections.abc import Mapping
from dataclasses import dataclass

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that one user may publish to and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    allow_responses: bool = False
    """May answer on the reply subject of a request that it received (for `nats.micro` services)."""


def inbox(user: str) -> str:
    """A user's own inbox: with the common `_INBOX` prefix users could read each other's replies."""
    return f"_INBOX_{user}"


def table() -> Mapping[str, Permissions]:
    """Every user of the embedded bus with its permissions."""
    everything = Permissions(publish=(">",), subscribe=(">",), allow_responses=True)
    return {"ingest": everything, "transcriber": everything, "keys": everything, ADMIN: everything}
