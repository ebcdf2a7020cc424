"""What may be called back, as far as a URL says it. Where a name leads is looked at when it is dialled."""

import ipaddress
import socket
from collections.abc import Collection, Mapping

from pydantic import ValidationError
from yarl import URL

from services.contracts.callbacks import Callback
from services.contracts.errors import Code, Problem
from services.ingest.callbacks.addresses import is_public

LONGEST = 2048
FIELDS = ("callback_url", "callback_include")
"""Fields of a submission that say who is to be told, and are no options of the engine."""


class Policy:
    """`http`: whether plain HTTP will do. `hosts`: each exact `host:port` that the operator vouches for.

    `ports` are open to everybody, as is 80 with plain HTTP.
    """

    def __init__(
        self, *, http: bool = False, hosts: Collection[str] = (), ports: Collection[int] = (443, 8443)
    ) -> None:
        self._ports = {"https": {*ports}} | ({"http": {80, *ports}} if http else {})
        self._listed = frozenset(host.lower() for host in hosts)

    def check(self, text: str) -> str:
        """The URL in its normal form. Raises `Problem` CALLBACK_URL, which does not quote it."""
        if len(text) > LONGEST or not text.isprintable() or any(char in text for char in " \\"):
            raise _refused(f"up to {LONGEST} printable characters without spaces or backslashes")
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except ValueError:
            raise _refused("an address such as https://example.com/hook") from None
        if not host or "%" in host or url.scheme not in self._ports:
            raise _refused(f"an address that begins with {' or '.join(f'{scheme}://' for scheme in self._ports)}")
        if url.user is not None or url.password is not None or url.raw_fragment:
            raise _refused("an address without user name, password and fragment")
        if not self.listed(url):
            if port not in self._ports[url.scheme]:
                ports = ", ".join(map(str, sorted(self._ports[url.scheme])))
                raise _refused(f"one of the ports {ports}")
            # A courtesy to who mistook the address; what counts is the address that is dialled.
            if (literal := _literal(host)) is not None and not is_public(literal):
                raise _refused("a public address")
        return str(url)

    def listed(self, url: URL) -> bool:
        """Whether the operator vouches for this receiver."""
        return endpoint(url) in self._listed

    def wish(self, fields: Mapping[str, str]) -> tuple[dict[str, str], Callback | None]:
        """A submission's fields without those of callbacks, and the callback that it asks for, if any.

        Raises `Problem` CALLBACK_URL or OPTION_VALUE.
        """
        others = {name: value for name, value in fields.items() if name not in FIELDS}
        url, include = (fields.get(name, "").strip() for name in FIELDS)
        if not url:
            if include:
                raise Problem(Code.OPTION_VALUE, "`callback_include` needs a `callback_url`.", options=[FIELDS[1]])
            return others, None
        try:
            return others, Callback.model_validate({"url": self.check(url), "include": include or None})
        except ValidationError:
            raise Problem(Code.OPTION_VALUE, "`callback_include` takes `transcript`.", options=[FIELDS[1]]) from None


def endpoint(url: URL) -> str:
    """`host:port` of a receiver, in lower case; an IPv6 address stands in brackets."""
    host = (url.raw_host or "").lower()
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def _literal(host: str) -> str | None:
    """The address that a host is, in any of the spellings that resolvers take; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _refused(wanted: str) -> Problem:
    return Problem(Code.CALLBACK_URL, f"A callback goes to {wanted}.")
