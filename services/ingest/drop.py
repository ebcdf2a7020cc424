"""The bucket door: what lies under `<tenant>/in/` in the bucket `drop` becomes a batch job.

A listing finds it, and an object is one job because the job's id follows from bucket, key, time and ETag: `job.json` is
the claim. So nothing has to be remembered; what was seen is remembered all the same, to leave the store alone.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Collection
from time import monotonic

from services.contracts import objects
from services.contracts.errors import Code, Problem
from services.contracts.ids import is_tenant, job_id_from
from services.contracts.jobs import Door, Lane
from services.ingest.admission import Admission
from services.ingest.asked import Asked, Origin
from services.ingest.callbacks.policy import Policy
from services.ingest.crowd import Crowd
from services.ingest.engines import Engines
from services.ingest.http.names import clean_name
from services.ingest.options import options_in_time
from services.ingest.orders import Orders, wished
from services.ingest.payers import Payers
from services.ingest.settings import Settings
from services.ingest.sidecars import Sidecars
from services.runtime.blobs import Blobs
from services.runtime.jsapi import Unavailable
from services.runtime.logs import get_logger
from services.runtime.reading import Missing, Opened, Stat
from services.runtime.records import Records

AT_ONCE = 4
"""Objects of one tenant that are admitted at once."""
LONGEST_KEY = 1000
"""Bytes; S3 allows 1024, and the names of what is written for an object are longer than its own."""
REST = 0.001
"""Seconds per object in a folder for which no event brings another look: ten times as long as listing them takes."""
TICK = 2.0
"""Seconds after which a look is made up for that an event asked for too early."""
PAUSE = 1.0
"""Seconds between two tries while a tenant has as many unfinished jobs as it may."""


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
        orders = Orders(self._drop, tenant)
        going: set[asyncio.Task[None]] = set()

        async def admit(job: str, stat: Stat) -> None:
            if await self._take(tenant, job, stat, orders, places):
                seen.add(job)

        try:
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
                    going.add(asyncio.create_task(admit(job, stat), name=f"admit {job}"))
                    if len(going) == AT_ONCE:
                        done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
                        await asyncio.gather(*done)
            except asyncio.CancelledError:
                for one in going:
                    one.cancel()
                raise
            finally:
                # Those under way are ended all the same: what is seen must be remembered.
                ends = await asyncio.gather(*going, return_exceptions=True)
            for end in ends:
                if end is not None:
                    raise end
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
        orders: Orders,
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
        return any(await asyncio.gather(*(self._blobs.stat(key) for key in keys)))

    async def _admit(self, tenant: str, job: str, stat: Stat, orders: Orders) -> None:
        who = await self._payers.of(tenant)
        if stat.size == 0:
            raise Problem(Code.EMPTY)
        try:
            async with self._drop.opened(stat.key) as found:
                if found.stat.etag != stat.etag:
                    raise Changed
                fields = {**await orders.of(stat.key), **wished(found.metadata)}
                others, callback = self._callbacks.wish(fields)
                options = options_in_time(
                    others, await self._engines.models(), self._settings.default_model, self._settings.default_language
                )
                await self._admission.receive(
                    who,
                    self._read(stat, found),
                    options=Asked(options, callback),
                    door=Door.DROP,
                    lane=Lane.BATCH,
                    length=stat.size,
                    name=clean_name(stat.key),
                    origin=Origin(dropped=stat.key, etag=stat.etag),
                    job=job,
                )
        except Missing:
            return  # gone again

    async def _read(self, stat: Stat, found: Opened) -> AsyncIterator[bytes]:
        """The object's bytes: of one version, since they come in one answer. Raises `Changed` when they broke off."""
        size = 0
        try:
            async for chunk in found.chunks:
                size += len(chunk)
                yield chunk
        except Unavailable:
            now = await self._drop.stat(stat.key)
            if now is not None and now.etag == stat.etag:
                raise
            raise Changed from None  # a store may remove the bytes of what is overwritten while they are read
        if size != stat.size:
            raise Changed


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
