"""The pieces of the launcher that decide: restarts, ports, locks, secrets, logs."""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.nats import config
from infra.nats.permissions import Permissions
from infra.stack import StackError, bucket, commands, pepper, ports, secrets, specs
from infra.stack.home import Home, HomeLock
from infra.stack.logs import LogFile, tail
from infra.stack.restarts import RestartPolicy


def test_a_death_after_ten_healthy_seconds_is_followed_by_an_immediate_restart() -> None:
    """No pause for a service that had been well."""
    assert RestartPolicy().delay_after(10.0) == 0


def test_quick_deaths_wait_longer_each_time_and_never_more_than_half_a_minute() -> None:
    """The pause doubles from half a second and is bounded; a death before readiness counts as quick."""
    policy = RestartPolicy()
    delays = [policy.delay_after(None if n % 2 else 9.9) for n in range(40)]
    assert delays[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(delays) == 30.0


def test_half_a_minute_of_health_forgives_earlier_quick_deaths() -> None:
    """After 30 s of health the pause starts small again; after 15 s it does not."""
    policy = RestartPolicy()
    for _ in range(4):
        policy.delay_after(1.0)
    assert policy.delay_after(15.0) == 0
    assert policy.delay_after(1.0) == 8.0
    assert policy.delay_after(30.0) == 0
    assert policy.delay_after(1.0) == 0.5


def test_ports_are_kept_while_they_are_free() -> None:
    """A name gets the port it had before, and another one when somebody took it meanwhile."""
    first = ports.assign(["a", "b"], {})
    assert ports.assign(["a", "b"], first) == first
    with socket.socket() as taker:
        taker.bind((ports.LOOPBACK, first["a"]))
        taker.listen()
        second = ports.assign(["a", "b"], first)
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]


def test_a_paired_port_needs_its_second_port_too() -> None:
    """A port whose partner 10,000 above is taken is not given to a server that listens on both."""
    port = ports.assign(["a"], {}, pairs=["a"])["a"]
    with socket.socket() as taker:
        taker.bind((ports.LOOPBACK, port + ports.GRPC_OFFSET))
        taker.listen()
        assert ports.assign(["a"], {"a": port})["a"] == port
        assert ports.assign(["a"], {"a": port}, pairs=["a"])["a"] != port


def test_two_launchers_never_take_the_same_port() -> None:
    """A port that one launcher has reserved is free for nobody else until it is given back, listening or not."""
    ours, theirs = ports.Reservations(), ports.Reservations()
    port = ports.assign(["a"], {}, pairs=["a"], reserved=ours)["a"]
    assert ports.assign(["b"], {"b": port}, reserved=theirs)["b"] != port
    assert ports.assign(["b"], {"b": port + ports.GRPC_OFFSET}, reserved=theirs)["b"] != port + ports.GRPC_OFFSET
    assert ports.assign(["b"], {"b": port})["b"] != port
    ours.release()
    assert ports.assign(["b"], {"b": port}, reserved=theirs)["b"] == port
    theirs.release()


def test_the_lock_of_a_home_names_its_holder(tmp_path: Path) -> None:
    """A second launcher on the same home is refused, and told who runs there; the lock goes with its holder."""
    home = Home(tmp_path)
    home.prepare()
    lock = HomeLock(home)
    assert lock.holder() is None
    lock.take()
    with pytest.raises(StackError, match=str(os.getpid())):
        HomeLock(home).take()
    assert lock.holder() == os.getpid()
    lock.release()
    assert lock.holder() is None


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path) -> None:
    """The message says how much is free and what to do."""
    with pytest.raises(StackError, match="DESIFRE_HOME"):
        Home(tmp_path).check_disk(1 << 60)


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the place of the folder is an error that names it."""
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(StackError, match="file"):
        Home(blocker / "home").prepare()


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """The second start finds the same secrets; a name that is new gets one; nobody else can read the file."""
    path = tmp_path / "stack.json"
    first = secrets.load_or_make(path, ["a", "b"])
    second = secrets.load_or_make(path, ["a", "b", "c"])
    assert {name: second[name] for name in ("a", "b")} == first
    assert len({*second.values()}) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_damaged_secrets_are_never_replaced_by_new_ones(tmp_path: Path) -> None:
    """A secrets file that cannot be read stops the start: new secrets would make every key worthless."""
    path = tmp_path / "stack.json"
    path.write_text('{"keys.pepper": "abc')
    with pytest.raises(StackError, match="damaged"):
        secrets.load_or_make(path, ["keys.pepper"])
    assert path.read_text() == '{"keys.pepper": "abc'


def test_a_log_file_stays_bounded(tmp_path: Path) -> None:
    """A full log makes room by rotation, and at most two older files are kept."""
    log = LogFile(tmp_path / "one.log", max_bytes=100)
    for number in range(50):
        log.write(b"line %03d, long enough to matter\n" % number)
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["one.log", "one.log.1", "one.log.2"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert tail(tmp_path / "one.log", 1) == ["line 049, long enough to matter"]


@pytest.mark.parametrize("wanted", [1, 5000, 9999, 12_000, 99_999])
def test_the_end_of_a_log_is_as_long_as_was_asked_for(tmp_path: Path, wanted: int) -> None:
    """However many lines are asked for, they come, whole and in order, from older files too."""
    log = LogFile(tmp_path / "one.log", max_bytes=1 << 20)
    lines = [f"line {number} {'x' * (number % 97)}" for number in range(30_000)]
    for line in lines:
        log.write(f"{line}\n".encode())
    log.close()
    kept = sum(path.read_bytes().count(b"\n") for path in tmp_path.iterdir())
    assert 12_000 < kept < 99_999
    assert tail(tmp_path / "one.log", wanted) == lines[-min(wanted, kept) :]


def test_the_configuration_of_the_bus_holds_no_password(tmp_path: Path) -> None:
    """nats-server takes each password from its environment, and accepts the rendered file."""
    users = {"one": Permissions(publish=("a.>",), subscribe=("_INBOX_one.>",), allow_responses=True)}
    conf = tmp_path / "nats.conf"
    conf.write_text(config.render(port=4222, monitor_port=8222, store_dir=tmp_path, users=users))
    assert "$DESIFRE_NATS_PASSWORD_ONE" in conf.read_text()
    server = Path(sys.executable).parent / "nats-server"
    verdict = subprocess.run(
        [server, "--config", conf, "-t"],
        env={config.password_variable("one"): "abc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verdict.returncode == 0, verdict.stderr


def test_lost_secrets_of_a_home_with_keys_are_not_made_anew(tmp_path: Path) -> None:
    """The start and every command that needs them say what to restore; a home without keys gets its secrets."""
    home = Home(tmp_path)
    home.prepare()
    secrets.load_or_make(home.secrets_file, ["keys.pepper"])
    home.secrets_file.unlink()
    with pytest.raises(StackError, match="never started"):
        pepper.renew(home)
    (home.keys / "keys.db").touch()
    commands_that_need_them: list[Callable[[], object]] = [
        lambda: secrets.load_or_make(home.secrets_file, ["keys.pepper"]),
        lambda: pepper.renew(home),
        lambda: bucket.show(home, {}),
        lambda: commands.inside(home, {}, "keys-admin", ["list"]),
    ]
    for command in commands_that_need_them:
        with pytest.raises(StackError, match="Restore it from the back-up"):
            command()
    assert not home.secrets_file.exists()


def test_a_command_on_a_home_that_was_never_started_leaves_nothing_behind(tmp_path: Path) -> None:
    """It says so, and makes no folder that would look like a home."""
    home = Home(tmp_path / "home")
    for command in (lambda: pepper.renew(home), lambda: secrets.make_anew(home.secrets_file, "nats.reader")):
        with pytest.raises(StackError, match="never started"):
            command()
    assert not home.root.exists()


def test_a_restored_home_asks_to_be_started_first(tmp_path: Path) -> None:
    """The ports of the last start are in no back-up: the commands that need them say so."""
    home = Home(tmp_path)
    home.secrets_file.parent.mkdir()
    secrets.load_or_make(home.secrets_file, specs.secret_names())
    for command in (lambda: commands.inside(home, {}, "keys-admin", ["list"]), lambda: bucket.show(home, {})):
        with pytest.raises(StackError, match="start once with `desifre up --detach`"):
            command()


def test_commands_at_the_same_time_lose_no_secret(tmp_path: Path) -> None:
    """Whoever changes the secrets of a home waits for whoever changes them already, and keeps what that one made."""
    path = tmp_path / "secrets" / "stack.json"
    path.parent.mkdir()
    secrets.load_or_make(path, ["keys.pepper"])
    names = [f"s3.drop.{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as operators:
        made = dict(zip(names, operators.map(lambda name: secrets.make_anew(path, name)[name], names), strict=True))
    known = secrets.load(path)
    assert {name: known[name] for name in names} == made
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "stack.json"]
