"""The streams and buckets of the bus, as JetStream takes them. One place, so that a lost one is made again alike."""

from typing import Any

from services.contracts import subjects
from services.contracts.submit import LARGEST

LIVE_BYTES = 16 << 30
"""Audio of live sessions that have not ended, all together: 140 hours at 16 kHz."""
_DAY = 86_400 * 1_000_000_000


def stream_configs(replicas: int = 1) -> list[dict[str, Any]]:
    """Every stream that the service needs, in an order in which they can be made."""
    base = {"storage": "file", "num_replicas": replicas, "discard": "old", "max_consumers": -1}
    return [
        base | _work(subjects.JOBS, subjects.ALL_JOBS),
        base | _work(subjects.PARTS, subjects.ALL_PARTS),
        base | _work(subjects.CALLBACKS, subjects.ALL_CALLBACKS),
        base
        | _work(subjects.SUBMIT, subjects.ALL_SUBMITS)
        # Here a subject is a tenant and not a unit: who is this far ahead is told so by the ack.
        | {"max_msgs_per_subject": 10_000, "max_msg_size": LARGEST, "max_bytes": 8 << 30}
        # Our publishers have ids of their own. A `Nats-Msg-Id` counts for the whole stream, so that another tenant's
        # would have a submission thrown away: the least window that the server takes, 0.1 s.
        | {"duplicate_window": 100_000_000},
        base
        | {
            "name": subjects.REJECTED,
            "subjects": [subjects.ALL_REJECTED],
            "retention": "limits",
            "max_age": 30 * _DAY,
            "max_msgs_per_subject": 100_000,
        },
        # Hints, which a listing makes up for; kept for an hour, for who wants to see what the store says.
        base
        | {
            "name": subjects.STORE,
            "subjects": [subjects.STORE_DROP],
            "retention": "limits",
            "max_age": _DAY // 24,
            "max_bytes": 256 << 20,
            "republish": {"src": subjects.STORE_DROP, "dest": f"{subjects.RELAY}.{subjects.STORE_DROP}"},
        },
        # A record whose job has ended is written with a time to live; its event stays as long as RESULTS keeps it.
        base | _bucket(subjects.RECORDS) | {"allow_msg_ttl": True},
        base | _bucket(subjects.CLAIMS) | {"allow_msg_ttl": True},
        base | _bucket(subjects.DELIVERIES) | {"allow_msg_ttl": True},
        base | _bucket(subjects.ENGINES) | {"max_age": 15 * 1_000_000_000, "storage": "memory"},
        base
        | {
            "name": subjects.RESULTS,
            "subjects": [subjects.ALL_SEGMENTS],
            "retention": "limits",
            "max_age": 7 * _DAY,
            "allow_direct": True,
            # The commit is the event: whatever is written to a record appears here, and cannot be forgotten.
            "sources": [
                {
                    "name": subjects.KV_RECORDS,
                    "subject_transforms": [
                        {
                            "src": subjects.kv(subjects.RECORDS, "*.*"),
                            "dest": "results.{{wildcard(1)}}.{{wildcard(2)}}.state",
                        }
                    ],
                }
            ],
            "republish": {"src": "results.>", "dest": f"{subjects.RELAY}.results.>"},
        },
        # Leases on live sessions: gone when they are not renewed.
        base | _bucket(subjects.SESSIONS) | {"allow_msg_ttl": True, "storage": "memory"},
        base
        | {
            "name": subjects.LIVE,
            "subjects": [subjects.ALL_LIVE],
            "retention": "limits",
            # What was acknowledged is safe for as long as an engine may be away; what ended is taken off long before.
            "max_age": 7 * _DAY,
            "max_bytes": LIVE_BYTES,
            # Who is refused knows it; what was acknowledged is never dropped for what comes later.
            "discard": "new",
            "allow_direct": True,
            # The audio of a session that has ended is rolled up into its last message: nobody may purge.
            "allow_rollup_hdrs": True,
            "republish": {"src": "live.>", "dest": f"{subjects.RELAY}.live.>"},
        },
        base
        | {
            "name": subjects.DEAD,
            "subjects": [subjects.ALL_DEAD],
            "retention": "limits",
            "max_msgs_per_subject": 1,
            "max_age": 90 * _DAY,
        },
    ]


def _work(name: str, pattern: str) -> dict[str, Any]:
    """A work queue that holds a unit at most once; the doorbell rings after the message is stored."""
    return {
        "name": name,
        "subjects": [pattern],
        "retention": "workqueue",
        "discard": "new",
        "discard_new_per_subject": True,
        "max_msgs_per_subject": 1,
        "max_msgs": 1_000_000,
        # A consumer per lane and tenant; -1 would mean the server's default of 1,000.
        "max_consumers": 100_000,
        "republish": {
            "src": f"{pattern.split('.', 1)[0]}.>",
            "dest": f"{subjects.BELL}.{pattern.split('.', 1)[0]}.>",
            "headers_only": True,
        },
    }


def _bucket(name: str) -> dict[str, Any]:
    """A key-value bucket with a history of one, as nats-py's own `create_key_value` would make it."""
    return {
        "name": f"KV_{name}",
        "subjects": [subjects.kv(name, ">")],
        "retention": "limits",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        # With rollup headers anybody who may write one key could empty the bucket.
        "allow_rollup_hdrs": False,
        "deny_delete": True,
    }
