"""Fixtures of all suites: real servers, started once a session on free ports and in folders of their own."""

from collections.abc import AsyncIterator

import hypothesis
import pytest
from xdist.remote import Producer

from infra.stack import Stack
from tests.order import Sharing, in_order
from tests.support import NatsServer, StoreServer

# As Hypothesis has it where `CI` is set: a machine that stops for a moment makes no example slow, and what is tried is
# the same everywhere. `--hypothesis-profile=default` looks for more.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order in which processes that share the work begin them."""
    in_order(items)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    """Files that share a service go to the same process."""
    config.option.loadscopereorder = False
    return Sharing(config, log)


@pytest.fixture(scope="session")
async def nats_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    """A nats-server with the embedded configuration: users ingest, transcriber, keys and admin."""
    async with Stack(tmp_path_factory.mktemp("nats"), services=["nats"]) as stack:
        users = {user: stack.nats_password(user) for user in ("ingest", "transcriber", "keys", "admin")}
        yield NatsServer(stack.nats_url, users, stack)


@pytest.fixture(scope="session")
async def store_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StoreServer]:
    """An S3 server with the buckets `desifre` and `drop`."""
    async with Stack(tmp_path_factory.mktemp("store"), services=["s3"]) as stack:
        yield StoreServer(stack.store_endpoint, *stack.store_keys(), stack.home.store, stack)


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The whole service with the digest engine, ready. Who breaks it on purpose starts one of its own."""
    settings = {"transcriber": {"DESIFRE_ENGINE": "digest"}}
    async with Stack(tmp_path_factory.mktemp("stack"), settings=settings) as stack:
        yield stack
