"""In whose name a tenant's dropped recordings are submitted: keys is asked, and its word remembered for a moment."""

from dataclasses import dataclass
from time import monotonic, time

from services.contracts import subjects
from services.contracts.auth import Claims, Payer
from services.contracts.errors import Code, Problem
from services.ingest.auth import Authenticator
from services.runtime.bus import Bus

TRUSTED = 1.0
"""Seconds that a word of keys holds: another key that was named, and a revocation nobody heard of, count after that."""


@dataclass(frozen=True, slots=True)
class _Word:
    claims: Claims | None
    detail: str | None
    until: float


class Payers:
    """Knows for each tenant which key pays. A revocation that is announced ends every word at once."""

    def __init__(self, bus: Bus, auth: Authenticator) -> None:
        self._bus = bus
        self._words: dict[str, _Word] = {}
        auth.listen(lambda _: self._words.clear())

    async def of(self, tenant: str) -> Claims:
        """The claims of the key that pays; its id is NO_KEY_PAYS where none was named.

        Raises `Problem` DROP_KEY when it is good for nothing any more, WRONG_KEY when keys knows no such tenant, and
        `Unavailable` when keys is away.
        """
        word = self._words.get(tenant)
        if word is None or word.until < monotonic():
            word = self._words[tenant] = await self._ask(tenant)
        if word.claims is None:
            raise Problem(Code.DROP_KEY, word.detail)
        if word.claims.expires is not None and word.claims.expires <= time():
            raise Problem(Code.DROP_KEY, f"The key {word.claims.key_id} has expired.")
        return word.claims

    async def _ask(self, tenant: str) -> _Word:
        until = monotonic() + TRUSTED
        try:
            return _Word(await self._bus.request(subjects.KEYS_PAYER, Payer(tenant=tenant), Claims), None, until)
        except Problem as problem:
            if problem.code != Code.DROP_KEY:
                self._words.pop(tenant, None)
                raise
            return _Word(None, problem.detail, until)
