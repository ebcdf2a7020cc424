"""Tickets: what a browser shows in place of a key, where it cannot send headers.

A ticket is a claim on the bus, so that any ingest takes it. Neither the bus nor a log ever sees it, only its hash.
One for a socket is good once: the first who marks it as used by compare-and-set has it. One for a media element is good
for one recording, any number of times for some hours, since a player asks again at every seek.
"""

import hashlib
import secrets
from collections.abc import Callable
from time import time

from services.contracts import subjects
from services.contracts.errors import Code, Problem
from services.contracts.jobs import Frozen
from services.runtime.bus import Bus
from services.runtime.kv import Conflict

LIFETIME = 60.0
"""Seconds for which a ticket is good."""
PREFIX = "dsf_ticket_"
MEDIA_LIFETIME = 4 * 3600.0
"""Seconds for which a ticket for a media element is good: longer than most recordings."""
MEDIA_PREFIX = "dsf_media_"


class _Ticket(Frozen):
    """The value behind a ticket."""

    key: str
    """Fingerprint of the key that it stands for; empty when it was used."""
    until: float
    """Unix seconds."""


class Tickets:
    """Makes tickets and takes them in. Every method raises `Unavailable` when the bus is away."""

    def __init__(self, bus: Bus) -> None:
        self._kv = bus.kv(subjects.CLAIMS)

    async def make(self, digest: str) -> tuple[str, float]:
        """A ticket for the key with this fingerprint, and until when it is good (Unix seconds)."""
        ticket, until = PREFIX + secrets.token_urlsafe(32), time() + LIFETIME
        await self._kv.create(_name(ticket), _Ticket(key=digest, until=until).encode(), LIFETIME)
        return ticket, until

    async def redeem(self, ticket: str) -> str:
        """The fingerprint of the key that the ticket stands for, this once. Raises `Problem` TICKET."""
        name = _name(ticket)
        entry = await self._kv.get(name)
        found = _Ticket.model_validate_json(entry.value) if entry else None
        if entry is None or found is None or not found.key or found.until <= time():
            raise Problem(Code.TICKET)
        try:
            # Not deleted: the mark of a deletion would stay for ever, this one goes with the ticket's time.
            await self._kv.update(name, found.model_copy(update={"key": ""}).encode(), entry.revision, LIFETIME)
        except Conflict:
            raise Problem(Code.TICKET) from None
        return found.key


class _MediaTicket(Frozen):
    """The value behind a ticket for a media element."""

    key: str
    """Fingerprint of the key that it stands for."""
    job: str
    until: float
    """Unix seconds."""


class MediaTickets:
    """Makes tickets for media elements and takes them in. Every method raises `Unavailable` when the bus is away."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time) -> None:
        self._kv = bus.kv(subjects.CLAIMS)
        self._clock = clock

    async def make(self, digest: str, job: str) -> tuple[str, float]:
        """A ticket for this job's recording and the key with this fingerprint, and until when it is good."""
        ticket, until = MEDIA_PREFIX + secrets.token_urlsafe(32), self._clock() + MEDIA_LIFETIME
        await self._kv.create(_name(ticket), _MediaTicket(key=digest, job=job, until=until).encode(), MEDIA_LIFETIME)
        return ticket, until

    async def find(self, ticket: str) -> tuple[str, str]:
        """The key's fingerprint and the job. Raises `Problem` TICKET."""
        entry = await self._kv.get(_name(ticket)) if ticket.startswith(MEDIA_PREFIX) else None
        found = _MediaTicket.model_validate_json(entry.value) if entry else None
        if found is None or found.until <= self._clock():
            raise Problem(Code.TICKET)
        return found.key, found.job


def is_ticket(shown: str) -> bool:
    """Whether this is a ticket and not a key."""
    return shown.startswith(PREFIX)


def _name(ticket: str) -> str:
    return hashlib.sha256(f"ticket:{ticket}".encode()).hexdigest()
