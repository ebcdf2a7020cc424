"""Repeats: the same request twice is one job.

A claim says which job a request became. It is made after the recording is stored and before the job exists, so that of
two equal requests one makes the job, and whoever finds the claim of a crashed admission completes that very job.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from services.contracts import subjects
from services.contracts.callbacks import Callback
from services.contracts.errors import Code, Problem
from services.contracts.jobs import Door, Frozen, Options, State
from services.runtime.bus import Bus
from services.runtime.kv import Conflict
from services.runtime.records import Records

KEY_TTL = 24 * 3600.0
"""Seconds for which an `Idempotency-Key` stands for its request."""
PUBLISHED_TTL = 7 * 86_400.0
"""Seconds for which a publisher's own id stands for its submission on the bus."""
CONTENT_TTL = 3600.0
"""Seconds for which equal bytes with equal options are the same request."""


class Claim(Frozen):
    """The value of a claim: the job that the request became."""

    job: str
    body: str
    """SHA-256 of the recording's sum and the options: what a repeat must equal."""
    at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a request is recognised by: the claim's key, and for how long (seconds)."""

    key: str
    ttl: float
    by_content: bool


def body_of(sha256: str, options: Options, callback: Callback | None = None) -> str:
    """What a request asks for: this recording with these options, and somebody told of the end."""
    return _hash(sha256, options.encode().decode(), *((callback.encode().decode(),) if callback else ()))


def token_of(tenant: str, door: Door, idempotency_key: str | None, body: str) -> Token:
    """By the caller's own key if there is one, else by what is asked for."""
    if idempotency_key is not None:
        ttl = PUBLISHED_TTL if door == Door.NATS else KEY_TTL
        return Token(_hash(tenant, door, "key", idempotency_key), ttl, by_content=False)
    return Token(_hash(tenant, door, "content", body), CONTENT_TTL, by_content=True)


def _hash(*fields: str) -> str:
    # Lengths in front: no two lists of fields may run together into the same text.
    return hashlib.sha256("".join(f"{len(field)}:{field}" for field in fields).encode()).hexdigest()


class Claims:
    """Finds and takes claims. Every method raises `Unavailable` when the bus or the store is away.

    `abandoned_after`: seconds after which a claim whose job never came to exist is another's to take. Its recording may
    be swept soon, so this must stay well below the age at which that happens.
    """

    def __init__(
        self, bus: Bus, records: Records, *, abandoned_after: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._kv = bus.kv(subjects.CLAIMS)
        self._records = records
        self._abandoned_after = abandoned_after
        self._clock = clock

    async def find(self, token: Token) -> Claim | None:
        """The claim that stands under this token."""
        entry = await self._kv.get(token.key)
        return Claim.model_validate_json(entry.value) if entry else None

    async def take(self, token: Token, body: str, tenant: str, job: str) -> str:
        """The job that this request is: `job`, or that of the claim that was there before.

        Raises `Problem` IDEMPOTENCY when the token stands for another request.
        """
        mine = Claim(job=job, body=body, at=self._clock())
        while True:
            entry = await self._kv.get(token.key)
            try:
                if entry is None:
                    await self._kv.create(token.key, mine.encode(), token.ttl)
                    return job
                theirs = Claim.model_validate_json(entry.value)
                if theirs.body != body:
                    raise Problem(Code.IDEMPOTENCY)
                if await self._stands(theirs, tenant, by_content=token.by_content):
                    return theirs.job
                await self._kv.update(token.key, mine.encode(), entry.revision, token.ttl)
            except Conflict:
                continue
            return job

    async def _stands(self, claim: Claim, tenant: str, *, by_content: bool) -> bool:
        """Whether a repeat is this job: not an erased one, nor by its content one that failed or was cancelled."""
        outcome = await self._records.outcome(tenant, claim.job)
        if outcome is not None:
            gone = {State.ERASED, State.FAILED, State.CANCELLED} if by_content else {State.ERASED}
            return outcome.state not in gone
        if self._clock() - claim.at < self._abandoned_after:
            return True
        return await self._records.manifest(tenant, claim.job) is not None
