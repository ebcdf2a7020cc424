"""What several suites need: the servers of a test session and how to reach them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from infra.stack import Stack
from services.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class NatsServer:
    """A real nats-server, configured as the embedded one is. `users` maps each user to its password."""

    url: str
    users: Mapping[str, str]
    stack: Stack

    def login(self, user: str = "admin") -> dict[str, str]:
        """Keyword arguments for `nats.connect(server.url, **server.login("ingest"))`."""
        return {"user": user, "password": self.users[user], "inbox_prefix": f"_INBOX_{user}"}


@dataclass(frozen=True, slots=True)
class StoreServer:
    """A real S3 server with the buckets `desifre` and `drop`; the keys are the admin's."""

    endpoint: str
    access_key: str
    secret_key: str
    sync_dir: Path
    stack: Stack

    def keys_of(self, identity: str) -> tuple[str, str]:
        """Access key and secret key of `ingest`, `transcriber` or `admin`."""
        return self.stack.store_keys(identity)


def operator_of(stack: Stack) -> Settings:
    """Settings by which the operator reaches the bus and the store of a stack."""
    access, secret = stack.store_keys()
    return Settings(
        nats_url=stack.nats_url,
        nats_user="admin",
        nats_password=SecretStr(stack.nats_password()),
        store_endpoint=stack.store_endpoint,
        store_access_key=access,
        store_secret_key=SecretStr(secret),
    )
