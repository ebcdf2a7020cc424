"""Structured logs. What a user said, named or was given as a key is never among the fields.

Fields are an allow-list, not a deny-list: a field that nobody thought about is dropped, and its name is said.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# fmt: off
ALLOWED = frozenset((
    "action", "address", "age", "attempt", "backlog", "batch", "bucket", "bytes", "cause", "code", "consumer", "count",
    "delay", "device", "duration_ms", "engine", "error", "exit_code", "failures", "job", "key_id", "kind", "lane",
    "level", "limit", "mode", "model", "n", "name", "object", "outcome", "parts", "path", "pid", "point", "port",
    "rate", "reason", "request_id", "restarts", "revision", "route", "sandbox", "seconds", "service", "signal", "slot",
    "slots", "state", "status", "stream", "subject", "task", "tenant", "version", "waited",
))
# fmt: on
"""Field names that may be logged. None of them holds a transcript, a client's file name, an address or a key."""

_OWN = frozenset(("event", "level", "timestamp", "logger", "exception", "exc_info"))


def _only_allowed(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    dropped = [field for field in event if field not in ALLOWED and field not in _OWN]
    for field in dropped:
        del event[field]
    if dropped:
        event["name"] = "dropped:" + ",".join(sorted(dropped))
    return event


def configure(service: str, level: str = "info", form: str = "json") -> None:
    """Set up structlog and the standard library's logging for this process, to standard error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer = structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _only_allowed,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log through the standard library; their warnings matter, their access lines and bodies do not.
    logging.basicConfig(
        stream=sys.stderr, level=max(number, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )


def get_logger() -> structlog.stdlib.BoundLogger:
    """A logger; pass fields by keyword, the event as a short sentence without data in it."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
