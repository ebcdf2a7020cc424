"""Finals, kept in the store while a session lasts: so much is left of it should the whole bus be lost."""

from services.contracts import objects
from services.contracts.live import Final, Kept, Session
from services.runtime.blobs import Blobs

KEEP = 20.0
"""Seconds between two writings: what a lost bus costs of the words, at most, beside what was not final."""


class Keeper:
    """Keeps what `.out` holds already, so that whoever else keeps it too writes the same words.

    Each object is named by its first final and written once; two engines may cut differently, so a reader goes by the
    numbers of the finals.
    """

    def __init__(self, blobs: Blobs, session: Session) -> None:
        self._blobs = blobs
        self._session = session
        self._next = 0

    async def found(self) -> Kept:
        """All that was kept of the session, without gaps. Raises `Unavailable`."""
        finals: dict[int, Final] = {}
        heard = arrived = 0.0
        async for stat in self._blobs.list(self._prefix):
            if data := await self._blobs.get(stat.key):
                kept = Kept.model_validate_json(data)
                finals |= {final.n: final for final in kept.finals}
                heard, arrived = max(heard, kept.heard), max(arrived, kept.arrived)
        whole = [finals[n] for n in range(len(finals)) if n in finals]
        return Kept(finals=tuple(whole), heard=heard, arrived=arrived)

    async def keep(self, finals: list[Final], heard: float, arrived: float) -> None:
        """Keep those that are not kept yet. Raises `Unavailable`."""
        while self._next < len(finals):
            key = objects.live_words(self._session.tenant, self._session.session, self._next)
            kept = Kept(finals=tuple(finals[self._next :]), heard=heard, arrived=max(heard, arrived))
            if not await self._blobs.put_once(key, kept.encode()):
                data = await self._blobs.get(key)  # by another engine, before it lost the session
                kept = Kept.model_validate_json(data) if data else kept
            self._next = kept.finals[-1].n + 1

    async def forget(self) -> None:
        """The job has its words: these are needed no more. Raises `Unavailable`."""
        await self._blobs.delete_prefix(self._prefix)

    @property
    def _prefix(self) -> str:
        return objects.live(self._session.tenant, self._session.session)
