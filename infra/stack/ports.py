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


class Reservations:
    """Ports that a launcher has spoken for, so that no other one takes them before the servers listen.

    What is held is a UDP socket of the same number: it leaves TCP to the server, needs no file, and goes with its
    process however that ends.
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, ports: Iterable[int]) -> bool:
        """Reserve all of these, or none; says which."""
        taken: dict[int, socket.socket] = {}
        for port in ports:
            if port in self._held:
                continue
            taken[port] = token = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                token.bind((LOOPBACK, port))
            except OSError:
                for one in taken.values():
                    one.close()
                return False
        self._held |= taken
        return True

    def release(self) -> None:
        """Give all of them back."""
        while self._held:
            self._held.popitem()[1].close()


def assign(
    names: Iterable[str],
    known: Mapping[str, int],
    *,
    pairs: Iterable[str] = (),
    avoid: Iterable[int] = (),
    reserved: Reservations | None = None,
) -> dict[str, int]:
    """A free port for each name: the one it had before when that is free still.

    Ports are kept because SeaweedFS files its own cluster state under its master's port.
    Those named in `pairs` need the port GRPC_OFFSET above to be free too; those in `avoid` are spoken for. They are
    held by `reserved`; without it they are free at this moment, and anybody may take them at the next.
    """
    if reserved is None:
        reserved = Reservations()
        try:
            return assign(names, known, pairs=pairs, avoid=avoid, reserved=reserved)
        finally:
            reserved.release()
    paired = frozenset(pairs)
    taken = set(avoid)

    def fits(port: int, name: str) -> bool:
        wanted = {port, port + GRPC_OFFSET} if name in paired else {port}
        return not wanted & taken and all(is_free(one) for one in wanted) and reserved.take(wanted)

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
