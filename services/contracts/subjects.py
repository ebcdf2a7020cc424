"""Streams, subjects, key-value buckets and consumers of the bus, spelled here and nowhere else."""

from services.contracts.jobs import Lane

JOBS = "JOBS"
PARTS = "PARTS"
RESULTS = "RESULTS"
DEAD = "DEAD"
CALLBACKS = "CALLBACKS"
SUBMIT = "SUBMIT"
REJECTED = "REJECTED"
LIVE = "LIVE"
STORE = "STORE"
RECORDS = "records"
CLAIMS = "claims"
ENGINES = "engines"
DELIVERIES = "deliveries"
SESSIONS = "sessions"
KV_RECORDS = f"KV_{RECORDS}"
KV_CLAIMS = f"KV_{CLAIMS}"
KV_ENGINES = f"KV_{ENGINES}"
KV_DELIVERIES = f"KV_{DELIVERIES}"
KV_SESSIONS = f"KV_{SESSIONS}"
STREAMS = (
    *(JOBS, PARTS, RESULTS, DEAD, CALLBACKS, SUBMIT, REJECTED, STORE, LIVE),
    *(KV_RECORDS, KV_CLAIMS, KV_ENGINES, KV_DELIVERIES, KV_SESSIONS),
)

ALL_JOBS = "jobs.*.*.*"
ALL_PARTS = "parts.*.*.*.*"
ALL_SEGMENTS = "results.*.*.segments"
ALL_STATES = "results.*.*.state"
ALL_RESULTS = "results.*.*.*"
ALL_DEAD = "dead.*.*"
ALL_CALLBACKS = "callbacks.*.*.*"
ALL_SUBMITS = "submit.*"
ALL_REJECTED = "rejected.*"
ALL_LIVE = "live.*.*"
ALL_LIVE_OPEN = "live.*.open"
ALL_LIVE_DONE = "live.*.done"
STORE_DROP = "store.drop"
"""Where an object store that speaks NATS, as MinIO does, tells of new objects in the bucket `drop`."""
DOMAIN = "desifre"
"""JetStream domain by which the services of a tenant reach their consumers from an account of their own."""
BELL = "bell"
"""Prefix under which JOBS, PARTS and CALLBACKS are republished, headers only, after the message is stored."""
RELAY = "relay"
"""Prefix under which RESULTS is republished whole, for an ingest to fan out to its waiting clients, and LIVE, for
whoever follows a session."""
USAGE_CONSUMER = "usage"
"""Durable consumer of RESULTS by which keys settles the ledger."""
SIDECARS_CONSUMER = "sidecars"
"""Durable consumer of RESULTS by which ingest finds the ends of dropped objects' jobs."""
CALLBACKS_CONSUMER = "callbacks"
"""Durable consumer of RESULTS by which ingest finds the ends that somebody is to be told of."""

INGEST_SERVICE = "ingest"
TRANSCRIBER_SERVICE = "transcriber"
KEYS_SERVICE = "keys"
"""Names under which the processes are found by the discovery of NATS micro services."""
KEYS_VERIFY = "keys.v1.verify"
KEYS_CREATE = "keys.v1.create"
KEYS_LIST = "keys.v1.list"
KEYS_ROTATE = "keys.v1.rotate"
KEYS_REVOKE = "keys.v1.revoke"
KEYS_USAGE = "keys.v1.usage"
KEYS_ADMIT = "keys.v1.admit"
KEYS_RESERVE = "keys.v1.reserve"
KEYS_CALLBACK = "keys.v1.callback"
KEYS_SIGN_ANEW = "keys.v1.sign-anew"
KEYS_SIGNING = "keys.v1.signing"
KEYS_PAYER = "keys.v1.payer"
KEYS_REVOKED = "keys.revoked"
"""Announcement of a revoked key's id: whoever caches a verdict forgets it, whoever holds its socket closes it."""
CANCEL = "cancel"
"""Prefix of core messages that tell engines and prepares at once of a job that was cancelled or erased."""


def job(lane: Lane | str, tenant: str, job_id: str) -> str:
    """The one message that asks for a job to be prepared."""
    return f"jobs.{lane}.{tenant}.{job_id}"


def part(lane: Lane | str, tenant: str, job_id: str, n: int) -> str:
    """The one message that asks for a part to be transcribed."""
    return f"parts.{lane}.{tenant}.{job_id}.{n}"


def callback(lane: Lane | str, tenant: str, job_id: str) -> str:
    """The one message that asks for somebody to be told of a job's end."""
    return f"callbacks.{lane}.{tenant}.{job_id}"


def submit(tenant: str) -> str:
    """Where other services publish the jobs of a tenant."""
    return f"submit.{tenant}"


def rejected(tenant: str) -> str:
    """The submissions of a tenant that became no job."""
    return f"rejected.{tenant}"


def reader(tenant: str) -> str:
    """Name of the durable consumer, on RESULTS and on REJECTED, by which a tenant's own services read."""
    return f"tenant-{tenant}"


def live_open(session: str) -> str:
    """The one message by which transcribers find a live session."""
    return f"live.{session}.open"


def live_audio(session: str) -> str:
    """The log of a session's input: audio and what is asked for, in order."""
    return f"live.{session}.audio"


def live_out(session: str) -> str:
    """What the transcriber says of a session."""
    return f"live.{session}.out"


def live_done(session: str) -> str:
    """One empty message: the session's job has its outcome."""
    return f"live.{session}.done"


def bell(subject: str) -> str:
    """Where the doorbell of this subject rings."""
    return f"{BELL}.{subject}"


def record(tenant: str, job_id: str) -> str:
    """Key of a job's record in the records bucket."""
    return f"{tenant}.{job_id}"


def kv(bucket: str, key: str) -> str:
    """The subject behind a key of a key-value bucket."""
    return f"$KV.{bucket}.{key}"


def state(tenant: str, job_id: str) -> str:
    """A job's state events (sourced from the records bucket)."""
    return f"results.{tenant}.{job_id}.state"


def segments(tenant: str, job_id: str) -> str:
    """The words of each finished part of a job."""
    return f"results.{tenant}.{job_id}.segments"


def results(tenant: str, job_id: str = "*") -> str:
    """Every event of a job, or of all the tenant's."""
    return f"results.{tenant}.{job_id}.*"


def dead(tenant: str, job_id: str) -> str:
    """Jobs that failed by our fault, kept for the operator."""
    return f"dead.{tenant}.{job_id}"


def cancel(tenant: str, job_id: str) -> str:
    """Tells engines at once that a job is cancelled; a hint, the outcome is the truth."""
    return f"{CANCEL}.{tenant}.{job_id}"


def consumer(lane: Lane | str, tenant: str) -> str:
    """Name of the durable consumer of one lane and tenant on JOBS, PARTS or CALLBACKS."""
    return f"{lane}-{tenant}"


def filter_of(stream: str, lane: Lane | str, tenant: str) -> str:
    """What that consumer sees."""
    return f"{stream.lower()}.{lane}.{tenant}.*" + (".*" if stream == PARTS else "")


def inbox(user: str) -> str:
    """Inbox prefix of a service's user: with a prefix each, nobody reads another's replies."""
    return f"_INBOX_{user}"
