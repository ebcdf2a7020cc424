"""The keys service as a process of its own, on a real bus, asked as ingest asks it."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from services.contracts import subjects
from services.contracts.auth import Admit, Granted, KeyInfo, KeyList, KeyRef, NewKey, Reserve, Revoked
from services.contracts.errors import Code, Problem
from services.contracts.events import Record
from services.contracts.ids import new_job_id
from services.contracts.jobs import Door, Lane, State, Timings
from tests.contract.keys_process import PATIENCE, Running, bus_of, running
from tests.support import NatsServer


@pytest.fixture(scope="module")
async def keys(nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with (
        bus_of(nats_server, "ingest") as bus,
        running(nats_server, tmp_path_factory.mktemp("keys"), bus) as there,
    ):
        yield there


def record(tenant: str, job: str, state: State, seconds: float | None = None, size: int = 0) -> Record:
    return Record(
        job=job, tenant=tenant, key_id="k", door=Door.HTTP, lane=Lane.INTERACTIVE, model="base", state=state,
        size=size, seconds=seconds, timings=Timings(accepted=1.0),
    )  # fmt: skip


async def test_a_key_lives_its_life_over_the_bus(keys: Running) -> None:
    """A key is made, verified, listed, rotated and revoked by requests, and then refused by its code."""
    made = await keys.sign_up()
    assert (await keys.verify(made.api_key)).tenant == made.tenant
    ref = KeyRef(tenant=made.tenant, key_id=made.key_id, by=made.key_id)
    new = await keys.bus.request(subjects.KEYS_ROTATE, ref, NewKey)
    listed = await keys.bus.request(subjects.KEYS_LIST, KeyRef(tenant=made.tenant), KeyList)
    assert [(key.key_id, key.deprecated) for key in listed.keys] == [(made.key_id, True), (new.key_id, False)]
    ended = await keys.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=made.tenant, key_id=new.key_id), KeyInfo)
    assert ended.revoked is not None
    with pytest.raises(Problem) as refused:
        await keys.verify(new.api_key)
    assert refused.value.code == Code.WRONG_KEY


async def test_a_revocation_is_announced(keys: Running) -> None:
    """Whoever listens hears the id of a revoked key, and it is refused by then."""
    made = await keys.sign_up()
    heard = await keys.bus.nc.subscribe(subjects.KEYS_REVOKED)
    await keys.bus.nc.flush()
    await keys.bus.request(subjects.KEYS_REVOKE, KeyRef(tenant=made.tenant, key_id=made.key_id), KeyInfo)
    message = await heard.next_msg(PATIENCE)
    await heard.unsubscribe()
    assert Revoked.model_validate_json(message.data).key_id == made.key_id
    with pytest.raises(Problem):
        await keys.verify(made.api_key)


async def test_the_ledger_follows_the_records(keys: Running, nats_server: NatsServer) -> None:
    """A record that ends settles its job without anybody asking, and its erasure frees the bytes."""
    tenant, job = (await keys.sign_up()).tenant, new_job_id()
    ask = Admit(tenant=tenant, key_id="k", job=job, bytes=5000)
    assert (await keys.bus.request(subjects.KEYS_ADMIT, ask, Granted)).ok
    async with bus_of(nats_server, "transcriber") as prepare:
        so_far = Reserve(tenant=tenant, job=job, seconds=120.0)
        assert (await prepare.request(subjects.KEYS_RESERVE, so_far, Granted)).ok
    records = keys.bus.kv(subjects.RECORDS)
    name = subjects.record(tenant, job)
    await records.put(name, record(tenant, job, State.RUNNING, size=4000).encode())
    await keys.settled(tenant, lambda used: used.bytes == 4000)
    await records.put(name, record(tenant, job, State.COMPLETED, seconds=118.5, size=4000).encode())
    used = await keys.settled(tenant, lambda used: used.unfinished_jobs == 0)
    assert (used.seconds_today, used.seconds_reserved, used.bytes) == (118.5, 0.0, 4000)
    await records.put(name, record(tenant, job, State.ERASED, seconds=118.5, size=4000).encode())
    used = await keys.settled(tenant, lambda used: used.bytes == 0)
    assert used.seconds_today == 118.5
    await records.delete(name)


async def test_settlement_goes_on_after_the_streams_were_lost(keys: Running, nats_server: NatsServer) -> None:
    """With the streams of results and records deleted and made anew, the next end is settled all the same."""
    tenant, job = (await keys.sign_up()).tenant, new_job_id()
    await keys.bus.request(subjects.KEYS_ADMIT, Admit(tenant=tenant, key_id="k", job=job, bytes=1), Granted)
    async with bus_of(nats_server, "admin") as admin:
        for stream in (subjects.RESULTS, subjects.KV_RECORDS):
            await admin.js.delete_stream(stream)
        await admin.ensure_streams()
    done = record(tenant, job, State.COMPLETED, seconds=5.0, size=1)
    await keys.bus.kv(subjects.RECORDS).put(subjects.record(tenant, job), done.encode())
    await keys.settled(tenant, lambda used: used.unfinished_jobs == 0)


async def test_an_event_that_cannot_be_read_holds_up_nothing(keys: Running) -> None:
    """A record of no known shape is passed over, and the next one is settled."""
    tenant, job = (await keys.sign_up()).tenant, new_job_id()
    records = keys.bus.kv(subjects.RECORDS)
    await records.put(subjects.record(tenant, new_job_id()), b"{no record")
    await records.put(subjects.record(tenant, job), record(tenant, job, State.COMPLETED, 1.0, size=3).encode())
    await keys.settled(tenant, lambda used: used.bytes == 3)


async def test_it_says_whether_it_is_ready_and_what_it_did(keys: Running) -> None:
    """/readyz names its checks, and /metrics counts verdicts and keys without naming anybody."""
    made = await keys.sign_up()
    await keys.verify(made.api_key)
    async with asyncio.timeout(PATIENCE):
        while (answer := await keys.get("/readyz"))[0] != 200:  # a check that takes long counts as failed
            await asyncio.sleep(0.1)
    assert json.loads(answer[1])["checks"] == {"database": "ok", "bus": "ok"}
    _, text = await keys.get("/metrics")
    assert 'desifre_keys_verifications_total{verdict="valid"}' in text
    assert 'desifre_keys_issued_total{how="sign_up"}' in text
    assert 'desifre_keys_request_seconds_count{operation="verify"}' in text
    assert made.tenant not in text
    assert made.key_id not in text


async def test_the_operator_works_beside_the_running_service(keys: Running, tmp_path: Path) -> None:
    """Keys made and quotas granted by command hold at once; a revocation by command is heard over the bus."""
    code, out, _ = await keys.admin("create", "--username", "crew", "--admin")
    shown = dict(line.split("\t") for line in out.splitlines())
    claims = await keys.verify(shown["api_key"])
    assert (code, claims.username, claims.scopes[-1]) == (0, "crew", "admin")
    assert (await keys.admin("quota", claims.tenant, "--hours", "2", "--jobs", "3", "--bytes", "4"))[0] == 0
    granted = (await keys.usage(claims.tenant)).quota
    assert (granted.audio_seconds_per_day, granted.unfinished_jobs, granted.bytes) == (7200.0, 3, 4)
    _, listed, _ = await keys.admin("list", "--tenant", claims.tenant)
    assert [line.split("\t")[0] for line in listed.splitlines()] == ["KEY", claims.key_id]
    assert shown["api_key"] not in listed
    heard = await keys.bus.nc.subscribe(subjects.KEYS_REVOKED)
    await keys.bus.nc.flush()
    assert (await keys.admin("revoke", claims.key_id))[0] == 0
    assert claims.key_id in (await heard.next_msg(PATIENCE)).data.decode()
    await heard.unsubscribe()
    with pytest.raises(Problem):
        await keys.verify(shown["api_key"])
    assert (await keys.admin("backup", str(tmp_path / "copy.db")))[0] == 0
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT tenant FROM keys WHERE id = ?", (claims.key_id,)).fetchone() == (claims.tenant,)


async def test_the_operator_takes_over_the_old_users(keys: Running, tmp_path: Path) -> None:
    """`import users.db` makes the old keys work in the running service, and says what a repeat finds."""
    with closing(sqlite3.connect(tmp_path / "users.db")) as old, old:
        old.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, api_key TEXT, created_at TIMESTAMP)")
        old.execute("INSERT INTO users (username, api_key) VALUES ('mehmet', 'tk_0123456789abcdef0123456789abcdef')")
        old.commit()
    for expected in ("1 taken over, 0 known already, 0 unusable", "0 taken over, 1 known already, 0 unusable"):
        _, out, _ = await keys.admin("import", str(tmp_path / "users.db"))
        assert out.strip() == expected
    assert (await keys.verify("tk_0123456789abcdef0123456789abcdef")).username == "mehmet"


@pytest.mark.parametrize(
    "arguments",
    [
        ("revoke", "neverwas"),
        ("quota", "nobody0000000000", "--jobs", "1"),
        ("create", "--username", "two\nlines"),
        ("create", "--username", "x", "--scopes", "everything"),
        ("import", __file__),
    ],
)
async def test_a_command_that_cannot_be_done_says_so(keys: Running, arguments: tuple[str, ...]) -> None:
    """What the operator got wrong is told in a sentence, with an exit code and without a traceback."""
    code, out, err = await keys.admin(*arguments)
    assert code != 0
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err
