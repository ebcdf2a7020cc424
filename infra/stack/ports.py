"""Finding free ports on the loopback, and telling when one is taken."""

import random
import socket
from collections.abc import Iterable, Mapping

from infra.stack.errors import StackError

LOOPBACK = "127.0.0.1"
GRPC_OFFSET = 10_000
"""SeaweedFS listens at every port of its own plus this one too."""
CANDIDATES = range(10_100, 22_000)
"""Below the ephemeral range of Linux also with GRPC_OFFSET added: no outgoing connection takes them."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket() as probe:
        # As servers do, so that a connection in TIME_WAIT does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def assign(
    names: Iterable[str], known: Mapping[str, int], *, pairs: Iterable[str] = (), avoid: Iterable[int] = ()
) -> dict[str, int]:
    """A free port for each name: the one it had before when that is free still.

    Ports are kept because SeaweedFS files its own cluster state under its master's port.
    Those named in `pairs` need the port GRPC_OFFSET above to be free too; those in `avoid` are spoken for.
    """
    paired = frozenset(pairs)
    taken = set(avoid)

    def fits(port: int, name: str) -> bool:
        wanted = {port, port + GRPC_OFFSET} if name in paired else {port}
        return not wanted & taken and all(is_free(one) for one in wanted)

    ports: dict[str, int] = {}
    for name in names:
        tries = [known[name]] if name in known else []
        tries += random.sample(CANDIDATES, 200)
        found = next((port for port in tries if fits(port, name)), None)
        if found is None:
            raise StackError(
                f"No free port for {name} among 200 tried between {CANDIDATES.start} and {CANDIDATES.stop}."
            )
        ports[name] = found
        taken |= {found, found + GRPC_OFFSET} if name in paired else {found}
    return ports
