"""Who may say and hear what on the embedded bus.

Every service has a user of its own with the subjects that its work needs and no others: a transcriber that was
talked into something cannot make keys, an ingest cannot forge words. Nobody may delete or purge a stream, or
delete a message of one. The operator's `admin` may do everything; no service knows its password.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.contracts import subjects

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that one user may publish to and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    allow_responses: bool = False
    """May answer on the reply subject of a request that it received (for `nats.micro` services)."""


def table() -> Mapping[str, Permissions]:
    """Every user of the embedded bus with its permissions."""
    return {
        "ingest": Permissions(
            publish=(
                subjects.ALL_JOBS,
                # The reconciler publishes again what a crash or a lost stream took.
                subjects.ALL_PARTS,
                subjects.kv(subjects.RECORDS, ">"),
                subjects.kv(subjects.CLAIMS, ">"),
                subjects.ALL_CALLBACKS,
                subjects.kv(subjects.DELIVERIES, ">"),
                *_pull(subjects.RESULTS, subjects.CALLBACKS_CONSUMER),
                *_pull(subjects.RESULTS, subjects.SIDECARS_CONSUMER),
                *_pull(subjects.CALLBACKS),
                *_pull(subjects.SUBMIT),
                subjects.ALL_REJECTED,
                # A tenant's own services read by consumers that ingest makes: making one could hand out the whole bus.
                f"$JS.API.CONSUMER.CREATE.{subjects.RESULTS}.*.results.*.>",
                f"$JS.API.CONSUMER.CREATE.{subjects.REJECTED}.*.{subjects.ALL_REJECTED}",
                subjects.cancel("*", "*"),
                *_KEYS_REQUESTS,
                *_streams("CREATE", "UPDATE", "INFO"),
                *_direct_get(subjects.KV_RECORDS, subjects.KV_CLAIMS, subjects.KV_ENGINES, subjects.RESULTS),
                *_direct_get(subjects.KV_DELIVERIES),
            ),
            subscribe=(
                _own_inbox("ingest"),
                f"{subjects.RELAY}.results.>",
                f"{subjects.BELL}.callbacks.>",
                f"{subjects.BELL}.submit.>",
                subjects.KEYS_REVOKED,
            ),
        ),
        "transcriber": Permissions(
            publish=(
                # A job whose samples were lost is prepared again.
                subjects.ALL_JOBS,
                subjects.ALL_PARTS,
                subjects.ALL_SEGMENTS,
                subjects.ALL_DEAD,
                subjects.kv(subjects.RECORDS, ">"),
                subjects.kv(subjects.ENGINES, ">"),
                subjects.KEYS_RESERVE,
                *_streams("CREATE", "INFO"),
                *_direct_get(subjects.KV_RECORDS, subjects.KV_ENGINES),
                *_pull(subjects.JOBS),
                *_pull(subjects.PARTS),
            ),
            subscribe=(_own_inbox("transcriber"), f"{subjects.BELL}.>", subjects.cancel("*", "*")),
        ),
        "keys": Permissions(
            publish=(
                subjects.KEYS_REVOKED,
                *_streams("CREATE", "INFO"),
                *_pull(subjects.RESULTS, subjects.USAGE_CONSUMER),
            ),
            subscribe=(_own_inbox("keys"), "keys.v1.>", "$SRV.>"),
            allow_responses=True,
        ),
        ADMIN: Permissions(publish=(">",), subscribe=(">",), allow_responses=True),
    }


def publisher(tenant: str) -> tuple[str, Permissions]:
    """The user of a tenant's own services, and what they may: submit its jobs, and read what becomes of them.

    They read by consumers that are there. Who may make consumers may have messages delivered to any subject.
    """
    user, consumer = subjects.reader(tenant), subjects.reader(tenant)
    reading = [
        subject
        for stream in (subjects.RESULTS, subjects.REJECTED)
        for subject in (
            f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            f"$JS.ACK.{stream}.{consumer}.>",
        )
    ]
    return user, Permissions(publish=(subjects.submit(tenant), *reading), subscribe=(_own_inbox(user),))


_KEYS_REQUESTS = (
    subjects.KEYS_VERIFY,
    subjects.KEYS_CREATE,
    subjects.KEYS_LIST,
    subjects.KEYS_ROTATE,
    subjects.KEYS_REVOKE,
    subjects.KEYS_USAGE,
    subjects.KEYS_ADMIT,
    subjects.KEYS_CALLBACK,
    subjects.KEYS_SIGN_ANEW,
    subjects.KEYS_SIGNING,
)


def _own_inbox(user: str) -> str:
    return f"{subjects.inbox(user)}.>"


def _streams(*verbs: str) -> Iterable[str]:
    """Asking for, making (never unmaking) any stream or bucket of ours."""
    return (f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs for stream in subjects.STREAMS)


def _direct_get(*streams: str) -> Iterable[str]:
    """Reading messages of a stream or values of a bucket by subject or sequence."""
    return (f"$JS.API.DIRECT.GET.{stream}{rest}" for stream in streams for rest in ("", ".>"))


def _pull(stream: str, consumer: str | None = None) -> Iterable[str]:
    """Working off a stream: making consumers, pulling from them, acknowledging. With a name, that consumer's alone."""
    one = consumer or "*"
    return (
        f"$JS.API.CONSUMER.CREATE.{stream}.{one}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.{one}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{one}",
        f"$JS.ACK.{stream}.{one}.>",
    )
