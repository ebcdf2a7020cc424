"""The containers as their files describe them; no engine is needed to read them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.containers import volumes
from infra.nats import config as nats_config
from infra.nats import permissions
from infra.stack import secrets, specs
from services.contracts import subjects
from tests.docs.pages import SERVICES

ROOT = Path(__file__).parents[2]
ONE_SHOT = {"volumes", "store-setup"}
KIND = {"keys": "keys", "ingest": "ingest", "transcriber": "transcriber", "transcriber-gpu": "transcriber"}


class _Loader(yaml.SafeLoader):
    """Knows the tag by which an overlay takes something away."""


_Loader.add_constructor("!reset", lambda loader, node: None)


def compose(name: str = "docker-compose.yml") -> dict[str, Any]:
    """A compose file as it is written, with its anchors followed."""
    found: dict[str, Any] = yaml.load((ROOT / name).read_text(), _Loader)  # noqa: S506 - a safe loader
    return found


def images() -> list[str]:
    """Every image that is named anywhere: the default of a variable, where there is one."""
    files = [compose(), compose("docker-compose.seaweedfs.yml")]
    named = [one["image"] for file in files for one in file["services"].values() if "image" in one]
    named += [
        one["build"].get("args", {}).get("BASE_IMAGE", "") for one in files[0]["services"].values() if "build" in one
    ]
    named += [
        line.split("=", 1)[1] for path in dockerfiles() for line in path.read_text().splitlines() if "ARG BASE" in line
    ]
    return sorted({re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", name) for name in named if name})


def dockerfiles() -> list[Path]:
    return sorted((ROOT / "services").glob("*/Dockerfile"))


def test_one_port_is_open() -> None:
    """Of all containers ingest alone publishes a port, and unless told otherwise to this machine alone."""
    ports = {name: one["ports"] for name, one in compose()["services"].items() if "ports" in one}
    assert ports == {"ingest": ["${DESIFRE_BIND:-127.0.0.1}:${DESIFRE_PORT:-3333}:3333"]}
    assert not any("network_mode" in one and one["network_mode"] != "none" for one in compose()["services"].values())


def test_no_secret_stands_in_a_file() -> None:
    """No variable that holds a secret is set in a compose file, by default or otherwise: they come from volumes."""
    secret = re.compile(r"PASSWORD|SECRET|PEPPER|TOKEN|ACCESS_KEY|ROOT_USER|JWT")
    for name in ("docker-compose.yml", "docker-compose.seaweedfs.yml", ".env"):
        assert secret.findall((ROOT / name).read_text()) == [], name
    for path in dockerfiles():
        assert secret.findall(path.read_text()) == [], path


def test_every_setting_in_a_container_is_one_of_its_service() -> None:
    """No container sets a variable that its service does not read."""
    for name, kind in KIND.items():
        known = {f"DESIFRE_{field.upper()}" for field in SERVICES[kind].model_fields}
        assert compose()["services"][name]["environment"].keys() - known == set(), name


def test_every_image_is_pinned() -> None:
    """Every image from outside names a release; those without a tag of outside are built here."""
    for name in images():
        tag = name.rpartition(":")[2]
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}-\d\d-\d\dT|^local$", tag), name
        assert "latest" not in tag, name


def test_every_container_has_a_health_check_or_ends() -> None:
    """What goes on running says whether it is well, and whoever needs it waits for that."""
    services = compose()["services"]
    for name, one in services.items():
        checked = one["healthcheck"].get("test")
        assert bool(checked) == (name not in ONE_SHOT), name
        for needed, how in one.get("depends_on", {}).items():
            ends = needed in ONE_SHOT
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), (name, needed)


def test_no_container_but_the_first_is_root() -> None:
    """All run as one plain user without capabilities; the one that makes the volumes has no network instead."""
    for name, one in compose()["services"].items():
        assert one["cap_drop"] == ["ALL"], name
        assert (one["user"], one.get("network_mode")) == (
            ("0:0", "none") if name == "volumes" else (f"{volumes.USER}:{volumes.USER}", None)
        ), name


def test_every_container_sees_its_own_secrets_alone() -> None:
    """The volume at /run/desifre is the container's own, and read-only; the master copy is in no other container."""
    for name, one in compose()["services"].items():
        if name == "volumes":
            continue
        mounted = [text.split(":") for text in one["volumes"]]
        own = "transcriber" if name == "transcriber-gpu" else name
        assert [f"{own}-secrets", "/run/desifre", "ro"] in mounted, name
        assert [source for source, *_ in mounted if source.endswith("secrets")] == [f"{own}-secrets"], name


def test_services_sync_what_the_store_writes() -> None:
    """The barrier's folder is the volume that the store keeps its data in, with either store."""
    services = compose()["services"]
    assert "store-data:/data" in services["store"]["volumes"]
    for name in ("ingest", "transcriber", "transcriber-gpu"):
        assert services[name]["environment"]["DESIFRE_STORE_SYNC_DIR"] == "/store"
        assert "store-data:/store:ro" in services[name]["volumes"]


def test_the_gpu_is_asked_for_by_its_profile() -> None:
    """One transcriber starts: on the CPU by default, on reserved NVIDIA devices with the profile `gpu`."""
    services = compose()["services"]
    assert (services["transcriber"]["profiles"], services["transcriber-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text().splitlines()
    [device] = services["transcriber-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.parent.name)
def test_images_install_from_locks_with_hashes(path: Path) -> None:
    """Every installation in an image is of its service's lock with hashes, or of the service itself without index."""
    text = path.read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install (.*)", text)
    assert len(installs) == 2
    assert f"--require-hashes -r requirements/{path.parent.name}.lock" in installs[0]
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(installs[1].split())
    assert "USER 10001:10001" in text
    assert "HEALTHCHECK" in text


@pytest.mark.parametrize("name", ["keys", "ingest"])
def test_only_the_transcriber_holds_an_engine(name: str) -> None:
    """The locks of keys and ingest hold no engine, no decoder and no model."""
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / f"{name}.lock").read_text(), re.MULTILINE))
    assert locked & {"ctranslate2", "faster-whisper", "av", "onnxruntime", "numpy", "tokenizers"} == set()
    assert {"aiohttp", "nats-py", "pydantic"} <= locked


def test_secrets_are_made_once_and_handed_out(tmp_path: Path) -> None:
    """A second start changes no secret; each folder holds what its container reads; the bus has the usual walls."""
    assert volumes.main([], tmp_path, 0) == 0
    first = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert volumes.main([], tmp_path, 0) == 0
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == first
    assert all(path.stat().st_mode & 0o077 == 0 for path in first)
    known = secrets.load(tmp_path / "secrets" / "stack.json")
    for name, others in (
        ("keys", ("ingest.drop", "nats.ingest")),
        ("transcriber", ("keys.pepper", "s3.ingest.secret")),
    ):
        text = (tmp_path / name / "env").read_text()
        assert known[f"nats.{name}"] in text
        assert [other for other in others if known[other] in text] == []
    for name in specs.SERVICES:
        settings = {line.split("=")[0] for line in (tmp_path / name / "env").read_text().splitlines()}
        assert settings <= {f"DESIFRE_{field.upper()}" for field in SERVICES[name].model_fields}
    assert nats_config.ACCOUNT in (tmp_path / "nats" / "nats.conf").read_text()


def test_a_grant_adds_a_guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`grant TENANT` prints the login and writes the tenant's account beside what was there."""
    tenant = "abcdefgh01234567"
    assert volumes.main([], tmp_path, 0) == 0
    before = (tmp_path / "nats" / "nats.conf").read_text()
    assert volumes.main(["grant", tenant], tmp_path, 0) == 0
    user = permissions.guest(tenant).user
    assert user in capsys.readouterr().out
    assert user not in before
    assert user in (tmp_path / "nats" / "nats.conf").read_text()
    assert nats_config.password_variable(user) in (tmp_path / "nats" / "users.conf").read_text()
    assert volumes.main(["grant", "../../etc"], tmp_path, 0) == 2


def test_a_pepper_is_changed_in_two_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pepper` hands keys a new pepper and the old one beside it; a later start keeps both, and `--forget` ends it."""

    def given() -> dict[str, str]:
        lines = (tmp_path / "keys" / "env").read_text().splitlines()
        return {name: value for name, value in (line.split("=", 1) for line in lines) if "PEPPER" in name}

    assert volumes.main([], tmp_path, 0) == 0
    [old] = given().values()
    assert volumes.main(["pepper"], tmp_path, 0) == 0
    both = given()
    assert both["DESIFRE_KEYS_PEPPER_PREVIOUS"] == old != both["DESIFRE_KEYS_PEPPER"]
    assert both.keys() <= {f"DESIFRE_{field.upper()}" for field in SERVICES["keys"].model_fields}
    assert volumes.main(["pepper"], tmp_path, 0) == 1, "the pepper before the last one would be lost unseen"
    assert "--forget" in capsys.readouterr().err
    assert volumes.main([], tmp_path, 0) == 0
    assert given() == both
    assert volumes.main(["pepper", "--forget"], tmp_path, 0) == 0
    assert given() == {"DESIFRE_KEYS_PEPPER": both["DESIFRE_KEYS_PEPPER"]}


def test_the_store_tells_the_bus_as_the_service_listens() -> None:
    """MinIO publishes as the user and on the subject that the bus knows."""
    environment = compose()["services"]["store"]["environment"]
    assert environment["MINIO_NOTIFY_NATS_SUBJECT_DROP"] == subjects.STORE_DROP
    assert environment["MINIO_NOTIFY_NATS_USERNAME_DROP"] == permissions.STORE
    assert environment["MINIO_NOTIFY_NATS_JETSTREAM_DROP"] == "on"


def test_dockerfiles_differ_in_nothing_but_their_service() -> None:
    """But for names, ports, patience and the transcriber's base all Dockerfiles have the same steps."""
    kept = set[str]()
    for path in dockerfiles():
        text = path.read_text().replace(path.parent.name, "SERVICE").replace("FROM base", "FROM ${BASE_IMAGE}")
        text = re.sub(r"start-period=\d+s|\"(3333|8080)\"", "", text)
        base = r"FROM \$\{BASE_IMAGE\} AS base\nRUN command -v python3[^}]*\}\n\n"
        lines = re.sub(base, "", text).splitlines()
        kept.add("\n".join(line for line in lines if not line.startswith(("#", "EXPOSE"))))
    assert len(kept) == 1
