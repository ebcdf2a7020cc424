"""What is kept of a secret: its digest under a pepper that lies outside the database."""

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass

LABEL_MAX = 64


@dataclass(frozen=True, slots=True)
class Pepper:
    """A secret without which the stored digests say nothing. `version` names it and gives nothing of it away."""

    version: str
    secret: bytes

    @classmethod
    def of(cls, secret: str) -> "Pepper":
        """The pepper of this text. Its version follows from it, so that nobody has to number peppers by hand."""
        raw = secret.encode()
        return cls(hmac.new(raw, b"version", hashlib.sha256).hexdigest()[:8], raw)

    def digest(self, text: str) -> str:
        """HMAC-SHA-256, hexadecimal. 190-bit secrets need no slow hash, which would be a way to burn our CPU."""
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()

    def webhook_secret(self, name: str) -> bytes:
        """The secret of this name: 32 bytes. The prefix keeps it apart from every digest."""
        return hmac.new(self.secret, f"webhook:{name}".encode(), hashlib.sha256).digest()


class Peppers:
    """The current pepper, under which digests are made, and the one before it, under which they are still found."""

    def __init__(self, current: str, previous: str | None = None) -> None:
        self.current = Pepper.of(current)
        self._known = (self.current, *([Pepper.of(previous)] if previous else []))

    @property
    def versions(self) -> tuple[str, ...]:
        """Names of the peppers under which a stored digest can be found."""
        return tuple(pepper.version for pepper in self._known)

    def find(self, version: str) -> Pepper | None:
        """The pepper of this version, if it is known."""
        return next((pepper for pepper in self._known if pepper.version == version), None)

    def digests(self, text: str) -> list[str]:
        """What `text` may be stored as, current pepper first."""
        return [pepper.digest(text) for pepper in self._known]


def new_invite() -> str:
    """A fresh invitation code: 120 random bits."""
    return "inv_" + secrets.token_urlsafe(15)


def invite_text(code: str) -> str:
    """What of an invitation is digested; the prefix keeps the kinds of digests apart."""
    return f"invite:{code}"


def network_digest(pepper: Pepper, address: str | None) -> str | None:
    """Keyed hash of the network that a sign-up comes from: an IPv4 address or an IPv6 /64; None for loopback.

    Whatever is no address counts as one and the same stranger.
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return pepper.digest("network:unknown")
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    if parsed.is_loopback:
        return None
    network = parsed if parsed.version == 4 else ipaddress.IPv6Network((int(parsed), 64), strict=False)
    return pepper.digest(f"network:{network}")


def valid_label(text: str | None) -> bool:
    """Whether this may name a user or a key: 1 to 64 printable characters, not all of them spaces."""
    return text is not None and 0 < len(text) <= LABEL_MAX and text.isprintable() and not text.isspace()
