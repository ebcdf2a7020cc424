"""Renders the configuration of the embedded nats-server."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from infra.nats.permissions import EXPORTS, Guest, Permissions

MAX_FILE_BYTES = 64 << 30
"""What JetStream may occupy on the disk: messages, and the audio of live sessions until they end."""
MAX_MEMORY_BYTES = 128 << 20
ACCOUNT = "DESIFRE"
"""The account of the service, which has the streams."""
LONGEST_PULL = "1h"
"""How long a guest's request for events may stay unanswered and still get them; the server's default is two minutes."""


def password_variable(user: str) -> str:
    """Name of the environment variable that carries a user's password into nats-server.

    The file refers to it, so that it can be shown around; nats-server would read a value that starts
    with a digit as a number, which is why `infra.stack.secrets` makes passwords of letters alone.
    """
    return f"DESIFRE_NATS_PASSWORD_{user.upper().replace('-', '_')}"


def passwords(known: Mapping[str, str]) -> str:
    """The text of the file with the passwords of users that came after nats-server was started."""
    return "".join(f"{password_variable(user)}: {json.dumps(password)}\n" for user, password in known.items())


def render(
    *,
    port: int,
    monitor_port: int,
    store_dir: Path,
    users: Mapping[str, Permissions],
    guests: Iterable[Guest] = (),
    passwords: str | None = None,
    host: str = "127.0.0.1",
) -> str:
    """The text of nats.conf: JetStream that syncs every write, one user per service, one account per guest.

    `passwords`: a file, relative to this one, with the passwords that nats-server was not started with.
    """
    return "\n".join(
        [
            f'listen: "{host}:{port}"',
            f'http: "127.0.0.1:{monitor_port}"',
            "server_name: desifre",
            *([f"include {json.dumps(passwords)}"] if passwords else []),
            "# A part of a transcript is one message: an hour of words stays far under this.",
            "max_payload: 8MB",
            "jetstream {",
            f"  store_dir: {json.dumps(str(store_dir))}",
            "  # The default flushes every two minutes, and a power cut would take that much.",
            "  sync_interval: always",
            f"  max_file: {MAX_FILE_BYTES}",
            f"  max_mem: {MAX_MEMORY_BYTES}",
            "}",
            "accounts {",
            f"  {ACCOUNT} {{",
            "    jetstream: enabled",
            "    users: [",
            *(_user(user, permissions) for user, permissions in users.items()),
            "    ]",
            "    exports: [",
            *(_export(subject, many) for subject, many in EXPORTS.items()),
            "    ]",
            "  }",
            *(_account(guest) for guest in guests),
            "}",
            "",
        ]
    )


def _account(guest: Guest) -> str:
    imports = "\n".join(
        f"      {{ service: {{ account: {ACCOUNT}, subject: {json.dumps(subject)} }}, to: {json.dumps(name)} }}"
        for subject, name in guest.imports.items()
    )
    user = _user(guest.user, guest.permissions)
    return f"  {guest.user} {{\n    users: [\n{user}\n    ]\n    imports: [\n{imports}\n    ]\n  }}"


def _export(subject: str, many: bool) -> str:
    more = f', response_type: stream, response_threshold: "{LONGEST_PULL}"' if many else ""
    return f"      {{ service: {json.dumps(subject)}{more} }}"


def _user(user: str, permissions: Permissions) -> str:
    rights = [
        f"publish: {{ allow: {json.dumps(list(permissions.publish))} }}",
        f"subscribe: {{ allow: {json.dumps(list(permissions.subscribe))} }}",
        *(["allow_responses: true"] if permissions.allow_responses else []),
    ]
    return f"      {{ user: {user}, password: ${password_variable(user)}, permissions: {{ {', '.join(rights)} }} }}"
