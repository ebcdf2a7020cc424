"""Who asks: keys are verified by the keys service over the bus, and its verdicts remembered for a short while.

Serves every door: `verify` takes a key from wherever it came. The cache is keyed by the key's fingerprint, so that no
key lies in memory longer than its request.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic, time

from nats.aio.msg import Msg

from services.contracts import subjects
from services.contracts.auth import Claims, Revoked, Scope, Verify, fingerprint, well_formed
from services.contracts.errors import Code, Problem
from services.runtime.bus import Bus

TRUSTED = 60.0
"""Seconds that a positive verdict holds; a revocation ends it at once."""
DOUBTED = 2.0
"""Seconds that a refusal holds, so that a wrong key in a loop does not become load on keys."""
REMEMBERED = 10_000
"""Verdicts kept at most; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    claims: Claims | None
    until: float


class Authenticator:
    """Verifies keys. Open it with `authenticator(bus)`, which listens for revocations."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._verdicts: OrderedDict[str, _Verdict] = OrderedDict()
        self._listeners: list[Callable[[str], None]] = []
        self._epoch = 0
        self._connection = bus.nc.stats["reconnects"]

    async def verify(self, key: str | None) -> Claims:
        """The claims of a key. Raises `Problem` NO_KEY or WRONG_KEY, `Unavailable` when keys is away."""
        if not key:
            raise Problem(Code.NO_KEY)
        if not well_formed(key):
            raise Problem(Code.WRONG_KEY)
        return await self.known(fingerprint(key))

    async def known(self, digest: str) -> Claims:
        """The claims of the key with this fingerprint. Raises `Problem` WRONG_KEY, `Unavailable` when keys is away."""
        self._notice_reconnect()
        verdict = self._verdicts.get(digest)
        if verdict is None or verdict.until < monotonic():
            verdict = await self._ask(digest)
        claims = verdict.claims
        if claims is None or (claims.expires is not None and claims.expires <= time()):
            raise Problem(Code.WRONG_KEY)
        return claims

    def listen(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of every key that is revoked; it must not block."""
        self._listeners.append(listener)

    def revoked(self, key_id: str) -> None:
        """Take note of a revocation."""
        self.forget()
        for listener in self._listeners:
            listener(key_id)

    def forget(self) -> None:
        """Forget every verdict: some key was revoked, or a revocation may have been missed."""
        self._epoch += 1
        self._verdicts.clear()

    async def _ask(self, digest: str) -> _Verdict:
        epoch = self._epoch
        try:
            claims = await self._bus.request(subjects.KEYS_VERIFY, Verify(fingerprint=digest), Claims)
            verdict = _Verdict(claims, monotonic() + TRUSTED)
        except Problem as problem:
            if problem.code != Code.WRONG_KEY:
                raise
            verdict = _Verdict(None, monotonic() + DOUBTED)
        if epoch == self._epoch:  # else the answer may be older than the revocation that came meanwhile
            self._verdicts[digest] = verdict
            self._verdicts.move_to_end(digest)
            while len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
        return verdict

    def _notice_reconnect(self) -> None:
        reconnects = self._bus.nc.stats["reconnects"]
        if reconnects != self._connection:
            # Announcements made while the connection was down were missed.
            self._connection = reconnects
            self.forget()


def require(claims: Claims, scope: Scope) -> None:
    """Raise `Problem` SCOPE unless the key may do this."""
    if scope not in claims.scopes:
        raise Problem(Code.SCOPE, f"The key has no scope `{scope}`.")


@asynccontextmanager
async def authenticator(bus: Bus) -> AsyncIterator[Authenticator]:
    """An authenticator that forgets its verdicts within a moment of any revocation."""
    auth = Authenticator(bus)

    async def revoked(message: Msg) -> None:
        auth.revoked(Revoked.model_validate_json(message.data).key_id)

    subscription = await bus.nc.subscribe(subjects.KEYS_REVOKED, cb=revoked)
    try:
        yield auth
    finally:
        if bus.nc.is_connected:
            await subscription.unsubscribe()
