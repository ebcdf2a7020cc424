"""The addresses that are never dialled for a user: everything that is not the public internet.

`ipaddress.is_global` is not enough: Python 3.11.7 takes ten kinds of inner addresses for global, among them 6to4, NAT64
and the metadata address of a cloud (the class of CVE-2024-4032). So the ranges stand here, after the special-purpose
registries of IANA; of IPv6 only 2000::/3 is in use at all.
"""

import ipaddress
import socket

from aiohappyeyeballs import AddrInfoType

_INNER_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind a carrier's NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's inner services
            "169.254.0.0/16",  # link-local, and the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
        ),
    )
)
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_INNER_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "2001::/23",  # Teredo, ORCHID, benchmarks
            "2001:db8::/32",
            "2002::/16",  # 6to4 holds any IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


class Inner(OSError):  # noqa: N818 - it names the address
    """This address is not dialled. All of these read alike, so that several of them remain one error."""

    def __init__(self) -> None:
        super().__init__("not a public address")


def is_public(address: str) -> bool:
    """Whether this is an address of the public internet, and not one of this machine's own."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        outside = not any(parsed in network for network in _INNER_V4)
    else:
        outside = parsed in _PUBLIC_V6 and not any(parsed in network for network in _INNER_V6)
    return outside and not _is_ours(parsed)


def guarded_socket(found: AddrInfoType) -> socket.socket:
    """The socket for an address that is about to be dialled. Raises `Inner`.

    aiohttp asks for it with the final address, after all parsing and resolving: no spelling and no name that leads
    elsewhere the second time gets past it.
    """
    family, kind, protocol, _, address = found
    if not is_public(str(address[0])):
        raise Inner
    return socket.socket(family, kind, protocol)


def _is_ours(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an interface of this machine has this address: whoever talks to himself has one name only."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))  # sends nothing: it only chooses the way
            return str(probe.getsockname()[0]) == str(address)
    except OSError:
        return False
