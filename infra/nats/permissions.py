"""Who may say and hear what on the embedded bus.

Every service has a user of its own with the subjects that its work needs and no others: a transcriber that was
talked into something cannot make keys, an ingest cannot forge words. Nobody may delete or purge a stream, or
delete a message of one. The operator's `admin` may do everything; no service knows its password.

A tenant's own services are guests: in an account of their own, into which nothing leads but what is imported by name.
nats-server does not check to which subject an answer is asked for, and delivers it there with its own authority; an
account is what such an answer cannot leave.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.contracts import subjects

ADMIN = "admin"
STORE = "store"


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
                subjects.ALL_LIVE_OPEN,
                subjects.live_audio("*"),
                *_KEYS_REQUESTS,
                *_streams("CREATE", "INFO"),
                *_direct_get(subjects.KV_RECORDS, subjects.KV_CLAIMS, subjects.KV_ENGINES, subjects.RESULTS),
                *_direct_get(subjects.KV_DELIVERIES, subjects.KV_SESSIONS, subjects.LIVE),
            ),
            subscribe=(
                _own_inbox("ingest"),
                f"{subjects.RELAY}.results.>",
                f"{subjects.RELAY}.live.>",
                f"{subjects.RELAY}.{subjects.STORE_DROP}",
                f"{subjects.BELL}.callbacks.>",
                f"{subjects.BELL}.submit.>",
                subjects.KEYS_REVOKED,
                _DISCOVERY,
            ),
            allow_responses=True,
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
                # What a session is left with whose client does not come back, and what is left of its audio.
                subjects.live_audio("*"),
                subjects.live_out("*"),
                subjects.ALL_LIVE_DONE,
                subjects.kv(subjects.SESSIONS, ">"),
                *_streams("CREATE", "INFO"),
                *_direct_get(subjects.KV_RECORDS, subjects.KV_ENGINES, subjects.KV_SESSIONS, subjects.LIVE),
                *_pull(subjects.JOBS),
                *_pull(subjects.PARTS),
            ),
            subscribe=(
                _own_inbox("transcriber"),
                f"{subjects.BELL}.>",
                f"{subjects.RELAY}.live.>",
                subjects.cancel("*", "*"),
                _DISCOVERY,
            ),
            allow_responses=True,
        ),
        "keys": Permissions(
            publish=(
                subjects.KEYS_REVOKED,
                *_streams("CREATE", "INFO"),
                *_pull(subjects.RESULTS, subjects.USAGE_CONSUMER),
            ),
            subscribe=(_own_inbox("keys"), "keys.v1.>", _DISCOVERY),
            allow_responses=True,
        ),
        # The object store, where it speaks NATS. It takes its answers at a client's usual inbox, as nobody else does.
        STORE: Permissions(publish=(subjects.STORE_DROP,), subscribe=("_INBOX.>",)),
        ADMIN: Permissions(publish=(">",), subscribe=(">",), allow_responses=True),
    }


@dataclass(frozen=True, slots=True)
class Guest:
    """The account of a tenant's own services, with its one user; both have the same name.

    `imports` are subjects of the service's account, each with the name under which the guest knows it.
    """

    user: str
    permissions: Permissions
    imports: Mapping[str, str]


def guest(tenant: str) -> Guest:
    """A tenant's own services: they submit its jobs, and read what becomes of them.

    They read by consumers that are there. Who may make consumers may have messages delivered to any subject.
    """
    user = subjects.reader(tenant)
    imports = {subjects.submit(tenant): subjects.submit(tenant)}
    for stream in (subjects.RESULTS, subjects.REJECTED):
        for verb in ("INFO", "MSG.NEXT"):
            # Below `$JS.API` every account has JetStream's own answer: that it is not enabled there.
            name = f"API.CONSUMER.{verb}.{stream}.{user}"
            imports[f"$JS.{name}"] = f"$JS.{subjects.DOMAIN}.{name}"
        imports[f"$JS.ACK.{stream}.{user}.>"] = f"$JS.ACK.{stream}.{user}.>"
    return Guest(user, Permissions(tuple(imports.values()), ("_INBOX.>", _own_inbox(user))), imports)


EXPORTS: Mapping[str, bool] = {
    subjects.ALL_SUBMITS: False,
    **{f"$JS.API.CONSUMER.INFO.{stream}.*": False for stream in (subjects.RESULTS, subjects.REJECTED)},
    **{f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*": True for stream in (subjects.RESULTS, subjects.REJECTED)},
    **{f"$JS.ACK.{stream}.*.>": False for stream in (subjects.RESULTS, subjects.REJECTED)},
}
"""What guests may import of the service's account, and whether one request may have many answers."""

_DISCOVERY = "$SRV.>"
"""Where NATS micro services are asked whether they are there."""
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
    subjects.KEYS_PAYER,
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
