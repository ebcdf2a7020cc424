"""Object keys. Everything of a job lies under `jobs/<tenant>/<job>/` and is written once."""

BUCKET = "desifre"
DROP_BUCKET = "drop"
ORDER = "desifre.json"
"""In a folder of the bucket `drop`: the options of the recordings in it and below."""
JOBS = "jobs/"
MODELS = "models/"
UPLOADS = "uploads/"
"""What clients put into the store themselves, before it is a job."""
SHARES = "shares/"
"""From the hash of a share's token to the share, which lies with its job."""


def tenant_prefix(tenant: str) -> str:
    """Everything of a tenant."""
    return f"{JOBS}{tenant}/"


def prefix(tenant: str, job: str) -> str:
    """Everything of a job."""
    return f"{JOBS}{tenant}/{job}/"


def manifest(tenant: str, job: str) -> str:
    """Options, door and sum of the source: the job exists when this does."""
    return prefix(tenant, job) + "job.json"


def source(tenant: str, job: str) -> str:
    """The recording as it came in."""
    return prefix(tenant, job) + "source"


def parts(tenant: str, job: str) -> str:
    """The folder of parts."""
    return prefix(tenant, job) + "parts/"


def part_pcm(tenant: str, job: str, n: int, start: int, end: int, channel: int | None = None) -> str:
    """The samples of a part: s16le, 16 kHz, mono; of one channel, or of all mixed.

    Range and channel are in the name: two prepares that cut differently write different objects, and whichever
    `part_meta` is there first says which of them counts.
    """
    return f"{parts(tenant, job)}{n:05d}-{start}-{end}{'' if channel is None else f'-c{channel}'}.pcm"


def part_meta(tenant: str, job: str, n: int) -> str:
    """A part's range and sum: written after its samples, and binding."""
    return f"{parts(tenant, job)}{n:05d}.json"


def plan(tenant: str, job: str) -> str:
    """The seal: how many parts there are."""
    return prefix(tenant, job) + "plan.json"


def words(tenant: str, job: str, n: int) -> str:
    """What the engine heard in a part."""
    return f"{prefix(tenant, job)}words/{n:05d}.json"


def transcript(tenant: str, job: str) -> str:
    """The assembled transcript."""
    return prefix(tenant, job) + "transcript.json"


def outcome(tenant: str, job: str) -> str:
    """The end of the job: whoever writes it wins."""
    return prefix(tenant, job) + "outcome.json"


def callback(tenant: str, job: str) -> str:
    """The end of a job's callback: nothing more is sent by itself."""
    return prefix(tenant, job) + "callback.json"


def peaks(tenant: str, job: str) -> str:
    """The waveform of the whole recording: `parts.PEAKS_PER_SECOND` bytes for each second."""
    return prefix(tenant, job) + "peaks.u8"


def live(tenant: str, job: str) -> str:
    """The folder of a live session's words while it lasts."""
    return prefix(tenant, job) + "live/"


def live_words(tenant: str, job: str, n: int) -> str:
    """Words of a live session from its final `n` on."""
    return f"{live(tenant, job)}{n:06d}.json"


def versions(tenant: str, job: str) -> str:
    """The folder of corrections."""
    return prefix(tenant, job) + "versions/"


def version(tenant: str, job: str, n: int) -> str:
    """A corrected version: what differs from the transcript. Who writes a number first has it."""
    return f"{versions(tenant, job)}{n:05d}.json"


def shares(tenant: str, job: str) -> str:
    """The folder of shares."""
    return prefix(tenant, job) + "shares/"


def share(tenant: str, job: str, share_id: str) -> str:
    """A share: it is good as long as this is there."""
    return f"{shares(tenant, job)}{share_id}.json"


def shared(digest: str) -> str:
    """Where the share is whose token has this hash."""
    return f"{SHARES}{digest}.json"


def drop_in(tenant: str) -> str:
    """In the bucket `drop`: where a tenant puts its recordings."""
    return f"{tenant}/in/"


def drop_out(tenant: str, key: str) -> str:
    """Beginning of the names of what is written for a dropped object: the same path, in another folder."""
    return f"{tenant}/out/{key.removeprefix(drop_in(tenant))}"


def drop_done(tenant: str, key: str) -> str:
    """Where a dropped object goes that is moved out of the way."""
    return f"{tenant}/done/{key.removeprefix(drop_in(tenant))}"


def upload_prefix(tenant: str, upload: str) -> str:
    """Everything of an upload that is no job yet."""
    return f"{UPLOADS}{tenant}/{upload}/"


def upload_terms(tenant: str, upload: str) -> str:
    """What was agreed of an upload: its size and, where they were told, its sum and its name."""
    return upload_prefix(tenant, upload) + "upload.json"


def upload_data(tenant: str, upload: str) -> str:
    """The recording that its client put there."""
    return upload_prefix(tenant, upload) + "data"


def split(key: str) -> tuple[str, str, str] | None:
    """`(tenant, job, rest)` of a key under `jobs/`, or None."""
    pieces = key.split("/", 3)
    return (pieces[1], pieces[2], pieces[3]) if len(pieces) == 4 and pieces[0] == "jobs" else None
