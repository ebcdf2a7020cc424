"""The composition root of ingest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.contracts import objects, subjects
from services.ingest.activity import Activity
from services.ingest.admission import Admission
from services.ingest.auth import authenticator
from services.ingest.callbacks.collect import collector
from services.ingest.callbacks.deliver import Deliverer
from services.ingest.callbacks.log import Deliveries
from services.ingest.callbacks.policy import Policy
from services.ingest.callbacks.post import poster
from services.ingest.callbacks.receivers import Receivers
from services.ingest.callbacks.schedule import Schedule
from services.ingest.claims import Claims
from services.ingest.drop import BucketDoor
from services.ingest.engines import Engines
from services.ingest.erase import Eraser
from services.ingest.feed import Feed
from services.ingest.http import ops
from services.ingest.http.body import Submissions
from services.ingest.http.deepgram import DeepgramRoutes
from services.ingest.http.deliveries import DeliveryRoutes
from services.ingest.http.docs import Docs
from services.ingest.http.guard import Guard
from services.ingest.http.jobs import JobRoutes
from services.ingest.http.keys import KeyRoutes
from services.ingest.http.media import MediaRoutes
from services.ingest.http.models import ModelRoutes
from services.ingest.http.openai import OpenAIRoutes
from services.ingest.http.page import PageRoutes
from services.ingest.http.server import application, serve
from services.ingest.http.shares import ShareRoutes
from services.ingest.http.socket import SocketRoutes
from services.ingest.http.status import StatusRoutes
from services.ingest.http.store_events import StoreEvents
from services.ingest.http.streams import StreamRoutes
from services.ingest.http.transcribe import Transcribe
from services.ingest.http.uploads import UploadRoutes
from services.ingest.http.versions import VersionRoutes
from services.ingest.http.webhooks import WebhookRoutes
from services.ingest.jobs import Jobs
from services.ingest.limits import Bodies, RateLimits
from services.ingest.live import LiveDoor
from services.ingest.page import FOLDER, Assets
from services.ingest.payers import Payers
from services.ingest.presigned import Presigned
from services.ingest.queue import Queue
from services.ingest.quota import Quota
from services.ingest.reconcile import Pace, Reconciler
from services.ingest.relay import relay
from services.ingest.settings import Settings
from services.ingest.shares import Shares
from services.ingest.sidecars import Sidecars
from services.ingest.signing import presigner_of
from services.ingest.store_events import listening
from services.ingest.streams import Streams
from services.ingest.submit import BusDoor
from services.ingest.sweep import Sweep
from services.ingest.tickets import MediaTickets, Tickets
from services.ingest.versions import Versions
from services.runtime.blobs import open_blobs
from services.runtime.bus import connect_bus
from services.runtime.health import Health
from services.runtime.lifecycle import Life, Tasks
from services.runtime.metrics import Metrics
from services.runtime.patience import START, until_there
from services.runtime.records import Records


@asynccontextmanager
async def app(settings: Settings, life: Life) -> AsyncIterator[None]:
    """Ready when entered: it listens. Left, it ends what waits, lets answers go out and closes."""
    metrics, health = Metrics(), Health()
    async with connect_bus(settings) as bus, open_blobs(settings) as blobs:
        await until_there(bus.ensure_streams, most=START)
        health.add("bus", bus.ping)
        health.add("store", blobs.ping)
        records, stopping = Records(bus, blobs), asyncio.Event()
        policy = Policy(http=settings.callback_http, hosts=settings.callback_hosts)
        async with (
            authenticator(bus) as auth,
            relay(bus, records, stopping) as events,
            poster(policy, timeout=settings.callback_timeout) as calls,
            Tasks(life.died) as tasks,
        ):
            eraser = Eraser(blobs, records)
            jobs = Jobs(bus, blobs, records, eraser)
            versions, shares = Versions(blobs, jobs), Shares(blobs, jobs, longest=settings.share_longest)
            engines = Engines(bus, tasks)
            queue = Queue(bus, engines, records)
            events.listen(queue.hear)
            activity = Activity()
            events.listen(activity.hear)
            bodies, limits, tickets = Bodies(settings), RateLimits(settings), Tickets(bus)
            streams, feed = Streams(auth, metrics), Feed(bus, events, jobs)
            auth.listen(streams.revoked)
            known = Claims(bus, records, abandoned_after=settings.claim_abandoned_after)
            quota = Quota(bus)
            admission = Admission(bus, blobs, records, known, quota, max_upload=settings.max_upload)
            presigned = Presigned(
                quota,
                blobs,
                admission,
                presigner_of(settings),
                max_upload=settings.max_upload,
                expires=settings.presigned_expires,
                kept=settings.presigned_after,
            )
            submissions = Submissions(admission, presigned, bodies, engines, policy, settings)
            deliveries = Deliveries(bus, blobs)
            deliverer = Deliverer(
                *(bus, jobs, deliveries, calls, Receivers(), Schedule(settings.callback_retries), tasks, metrics),
                base=settings.public_url.rstrip("/"),
                lease=settings.callback_lease,
            )
            drop = blobs.bucket(objects.DROP_BUCKET)
            sidecars = Sidecars(blobs, drop, records, originals=settings.drop_originals)
            bucket = BucketDoor(blobs, drop, records, admission, engines, policy, Payers(bus, auth), sidecars, settings)
            live = LiveDoor(bus, blobs, records, engines, quota, settings)
            assets = await asyncio.to_thread(Assets, settings.page_dir or FOLDER, fresh=settings.page_dir is not None)
            docs = Docs(
                [
                    *Transcribe(submissions, jobs, events, settings.transcribe_wait).routes(),
                    *JobRoutes(submissions, jobs, versions, events, queue, settings.longest_wait).routes(),
                    *OpenAIRoutes(submissions, jobs, events, stopping, settings).routes(),
                    *StreamRoutes(tickets, streams, feed, settings).routes(),
                    *SocketRoutes(streams, feed, live, bus, limits, settings).routes(),
                    *DeepgramRoutes(submissions, jobs, events, streams, live, bus, settings).routes(),
                    *DeliveryRoutes(jobs, deliveries, deliverer).routes(),
                    *ModelRoutes(engines, settings).routes(),
                    *UploadRoutes(presigned, bodies).routes(),
                    *KeyRoutes(bus, auth, bodies, settings).routes(),
                    *WebhookRoutes(bus, auth, bodies, policy, deliveries).routes(),
                    *StoreEvents(bucket.wake, bodies, settings).routes(),
                    *VersionRoutes(versions, bodies).routes(),
                    *ShareRoutes(shares, versions, jobs, bodies, limits, settings).routes(),
                    *MediaRoutes(jobs, MediaTickets(bus), auth, limits, settings).routes(),
                    *PageRoutes(assets).routes(),
                    *StatusRoutes(activity, queue, engines, streams, health).routes(),
                    *ops.routes(health, metrics),
                ]
            )
            sweep = Sweep(
                quota,
                blobs,
                records,
                after=settings.sweep_after,
                uploads_after=settings.sweep_uploads_after,
                presigned_after=settings.presigned_after,
            )
            pace = Pace(every=settings.reconcile_every, stalled_after=settings.stalled_after)
            tasks.start(collector(bus, records, deliveries, settings.callback_lease).run(), name="callbacks-collect")
            tasks.start(deliverer.run(), name="callbacks")
            tasks.start(sidecars.consumer(bus).run(), name="sidecars")
            tasks.start(bucket.run(), name="drop")
            tasks.start(BusDoor(bus, admission, engines, drop, policy, settings).run(), name="submit")
            tasks.start(
                Reconciler(bus, blobs, records, eraser, sweep, pace, told=activity.hear).run(), name="reconcile"
            )
            tasks.start(events.mind(), name="relay")
            tasks.start(streams.mind(), name="streams")
            guard = Guard(auth, tickets, limits, settings)
            async with (
                serve(application(docs.all_routes(), guard, metrics), settings),
                bus.serve(subjects.INGEST_SERVICE),
                listening(bus, bucket.wake),
            ):
                try:
                    yield
                finally:
                    stopping.set()
                    events.wake_all()
                    streams.stop()
