"""The bucket door: what lies under `<tenant>/in/` in the bucket `drop` becomes a batch job.

A listing finds it, and an object is one job because the job's id follows from bucket, key, time and ETag: `job.json` is
the claim. So nothing has to be remembered; what was seen is remembered all the same, to leave the store alone.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Collection, Mapping
from time import monotonic

from services.contracts import objects
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_tenant, job_id_from
from services.contracts.jobs import Door, Lane, Options
from services.ingest.admission import Admission
from services.ingest.asked import Asked, Origin
from services.ingest.callbacks.policy import FIELDS, Policy
from services.ingest.crowd import Crowd
from services.ingest.engines import Engines
from services.ingest.http.names import clean_name
from services.ingest.options import ALIASES, field_of, options_of
from services.ingest.payers import Payers
from services.ingest.settings import Settings
from services.ingest.sidecars import Sidecars
from services.runtime.blobs import Blobs, Stat
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger
from services.runtime.records import Records

AT_ONCE = 4
"""Objects of one tenant that are admitted at once."""
LONGEST_KEY = 1000
"""Bytes; S3 allows 1024, and the names of what is written for an object are longer than its own."""
LARGEST_ORDER = 64 << 10
REST = 0.001
"""Seconds per object in a folder for which no event brings another look: ten times as long as listing them takes."""
TICK = 2.0
"""Seconds after which a look is made up for that an event asked for too early."""
PAUSE = 1.0
"""Seconds between two tries while a tenant has as many unfinished jobs as it may."""
_OPTIONS = frozenset((*Options.model_fields, *ALIASES, *FIELDS))


class Changed(Exception):  # noqa: N818 - a state, not a fault
    """The object was overwritten while it was read: it is another one now."""


class NotNow(Exception):  # noqa: N818 - a state, not a fault
    """Nothing of this tenant's can be admitted today, or ever: the next look will tell."""


class BucketDoor:
    """Looks into the bucket every `drop_every` seconds, for every tenant by itself: nobody waits for another's tree."""

    def __init__(
        self,
        blobs: Blobs,
        drop: Blobs,
        records: Records,
        admission: Admission,
        engines: Engines,
        callbacks: Policy,
        payers: Payers,
        sidecars: Sidecars,
        settings: Settings,
    ) -> None:
        self._blobs = blobs
        self._drop = drop
        self._records = records
        self._admission = admission
        self._engines = engines
        self._callbacks = callbacks
        self._payers = payers
        self._sidecars = sidecars
        self._settings = settings
        self._secret = settings.drop_secret.get_secret_value().encode()
        self._seen: dict[str, set[str]] = {}
        self._unpaid: dict[str, set[str]] = {}
        self._told: set[str] = set()
        self._rests: dict[str, float] = {}
        self._due = 0.0
        every = settings.drop_every
        self._crowd = Crowd(self._tenants, self._look, every=min(TICK, every), at_once=4 * AT_ONCE, pause=min(1, every))
        self._log = get_logger()

    async def run(self) -> None:
        """For ever."""
        await self._crowd.run()

    def wake(self, tenants: Collection[str]) -> None:
        """Something was put into these tenants' folders, as an event says: look there before the time."""
        self._told.update(tenants)
        self._crowd.bell.set()

    async def _tenants(self) -> list[str]:
        now = monotonic()
        if now < self._due:
            return [tenant for tenant in self._told if self._rests.get(tenant, 0) <= now]
        found = [stat.key.removesuffix("/") async for stat in self._drop.list("", recursive=False)]
        tenants = [name for name in found if is_tenant(name)]
        self._due = now + self._settings.drop_every
        for known in (self._seen, self._unpaid):
            for gone in known.keys() - set(tenants):
                del known[gone]
        self._rests = {tenant: until for tenant, until in self._rests.items() if until > now}
        return tenants

    async def _look(self, tenant: str, places: asyncio.Semaphore) -> None:
        """One walk through a tenant's folder. Memory grows with the originals that are kept, about 100 bytes each."""
        self._told.discard(tenant)
        listed = 0
        before, seen = self._seen.get(tenant, set()), set[str]()
        # What nobody pays for was told so, and waits for a key that works: it is not asked about again before.
        unpaid, self._unpaid[tenant] = self._unpaid.get(tenant, set()), set()
        new: list[tuple[str, Stat]] = []
        orders: dict[str, Mapping[str, str] | None] = {}

        async def admit() -> None:
            taking = (self._take(tenant, job, stat, orders, places) for job, stat in new)
            done = await asyncio.gather(*taking, return_exceptions=True)
            for (job, _), became in zip(new, done, strict=True):
                if became is True:
                    seen.add(job)
            new.clear()
            for error in done:
                if isinstance(error, BaseException):
                    raise error

        try:
            async for stat in self._drop.list(objects.drop_in(tenant)):
                listed += 1
                if not is_recording(tenant, stat.key):
                    continue
                job = job_of(self._secret, stat)
                if job in before:
                    seen.add(job)
                    continue
                if job in unpaid and not await self._is_paid_for(tenant):
                    self._unpaid[tenant].add(job)
                    continue
                new.append((job, stat))
                if len(new) == AT_ONCE:
                    await admit()
            await admit()
        except (NotNow, Unavailable) as reason:
            self._log.warning("dropped objects wait", tenant=tenant, reason=str(reason))
            self._seen[tenant] = before | seen
        else:
            self._seen[tenant] = seen
        self._rests[tenant] = monotonic() + REST * listed

    async def _is_paid_for(self, tenant: str) -> bool:
        try:
            await self._payers.of(tenant)
        except Problem as problem:
            return problem.code != Code.DROP_KEY
        return True

    async def _take(
        self,
        tenant: str,
        job: str,
        stat: Stat,
        orders: dict[str, Mapping[str, str] | None],
        places: asyncio.Semaphore,
    ) -> bool:
        """Whether nothing more is to be done for this object. Raises `NotNow`, `Unavailable`."""
        while True:
            try:
                async with places:
                    if not await self._exists(tenant, job):
                        await self._admit(tenant, job, stat, orders)
            except Changed:
                return False
            except Problem as problem:
                if problem.code == Code.TOO_MANY_JOBS:
                    await asyncio.sleep(PAUSE)
                    continue
                if problem.code in (Code.QUOTA, Code.WRONG_KEY):
                    raise NotNow(problem.code) from None
                await self._sidecars.refuse(tenant, stat.key, problem)
                if problem.code == Code.DROP_KEY:
                    self._unpaid[tenant].add(job)
                    return False
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one object must not end the door for all
                self._log.error("a dropped object failed", tenant=tenant, error=type(error).__name__, exc_info=error)
                return False
            return True

    async def _exists(self, tenant: str, job: str) -> bool:
        """Whether this object is a job, or was one that was erased."""
        if await self._records.get(tenant, job) is not None:
            return True
        keys = (objects.manifest(tenant, job), objects.outcome(tenant, job))
        return any([await self._blobs.stat(key) is not None for key in keys])

    async def _admit(self, tenant: str, job: str, stat: Stat, orders: dict[str, Mapping[str, str] | None]) -> None:
        who = await self._payers.of(tenant)
        metadata = await self._drop.metadata(stat.key)
        if metadata is None:
            return  # gone again
        if stat.size == 0:
            raise Problem(Code.EMPTY)
        # What other programs write beside an object is none of our business.
        asked = {name.replace("-", "_"): value for name, value in metadata.items()}
        asked = _options({name: value for name, value in asked.items() if name in _OPTIONS})
        fields = {**(await self._order(tenant, stat.key, orders) or {}), **asked}
        others, callback = self._callbacks.wish(fields)
        options = options_of(
            others, await self._engines.models(), self._settings.default_model, self._settings.default_language
        )
        await self._admission.receive(
            who,
            self._read(stat),
            options=Asked(options, callback),
            door=Door.DROP,
            lane=Lane.BATCH,
            length=stat.size,
            name=clean_name(stat.key),
            origin=Origin(dropped=stat.key, etag=stat.etag),
            job=job,
        )

    async def _read(self, stat: Stat) -> AsyncIterator[bytes]:
        async for chunk in self._drop.read(stat.key):
            yield chunk
        now = await self._drop.stat(stat.key)
        if now is not None and now.etag != stat.etag:
            raise Changed

    async def _order(
        self, tenant: str, key: str, known: dict[str, Mapping[str, str] | None]
    ) -> Mapping[str, str] | None:
        """What the `desifre.json` in the object's folder says, or the nearest one above it."""
        folder, top = key.rpartition("/")[0] + "/", objects.drop_in(tenant)
        while len(folder) >= len(top):
            if folder not in known:
                known[folder] = await self._read_order(folder + objects.ORDER)
            if (found := known[folder]) is not None:
                return found
            folder = folder[:-1].rpartition("/")[0] + "/"
        return None

    async def _read_order(self, key: str) -> Mapping[str, str] | None:
        stat = await self._drop.stat(key)
        if stat is None:
            return None
        data = await self._drop.get(key) if stat.size <= LARGEST_ORDER else b""
        try:
            document = json.loads(data or b"")
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Problem(Code.OPTION_VALUE, f"`{objects.ORDER}` is not a small JSON object.")
        return _options({name: field_of(value) for name, value in document.items()})


def job_of(secret: bytes, stat: Stat) -> str:
    """The job that this object is: another one when it is overwritten, the same one whoever asks, and no guess."""
    content = "\0".join((objects.DROP_BUCKET, stat.key, stat.etag)).encode()
    digest = hmac.new(secret, content, hashlib.sha256).digest()
    return job_id_from(int(stat.modified.timestamp() * 1000), int.from_bytes(digest[:10]))


def is_recording(tenant: str, key: str) -> bool:
    """Whether an object is one to be transcribed: no folder, no order, nothing hidden, nothing with a hostile name."""
    steps = key.removeprefix(objects.drop_in(tenant)).split("/")
    if any(step in ("", ".", "..") for step in steps) or len(key.encode()) > LONGEST_KEY:
        return False  # a store that keeps folders would take `..` for the folder above
    return steps[-1] != objects.ORDER and not steps[-1].startswith(".")


def _options(fields: Mapping[str, str]) -> dict[str, str]:
    return {ALIASES.get(name, name): value for name, value in fields.items()}
