"""Nothing is there that the docs do not say, and nothing is said that is not there."""

import re
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from services.contracts import subjects
from services.contracts.errors import Code
from services.ingest.http.guard import Guard
from services.ingest.http.openapi import document, errors_of
from services.ingest.http.route import Route
from services.ingest.http.server import application
from services.runtime.metrics import Metrics
from tests.docs.pages import DOCS, LAUNCHER, PAGES, SERVICES, route_table

ROOT = DOCS.parent
ROUTES = route_table()


def sources() -> list[Path]:
    """Every file of code."""
    return [path for folder in ("services", "infra") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_generated_pages_are_current(page: str) -> None:
    """The pages made from the code say what the code says; else run `python -m tests.docs.pages`."""
    assert (DOCS / page).read_text() == PAGES[page]()


def test_openapi_is_valid() -> None:
    """The OpenAPI document follows its specification."""
    validate(document(ROUTES))


def test_every_route_is_documented() -> None:
    """The router and the OpenAPI document hold the same routes."""
    app = application(ROUTES, Guard.__new__(Guard), Metrics())
    routed = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    documented = {(method.upper(), path) for path, methods in document(ROUTES)["paths"].items() for method in methods}
    assert routed == documented


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_parameters_in_paths_are_described(route: Route) -> None:
    """Every variable of a path is a parameter of its route, and every path parameter is in the path."""
    described = {param.name for param in route.params if param.where == "path"}
    assert described == set(re.findall(r"{(\w+)}", route.path))


def test_every_error_is_some_routes() -> None:
    """Every code can be met at some route, by an unknown address or method, over the bus, or in the bucket."""
    met = {code for route in ROUTES for code in errors_of(route)} | {Code.NOT_FOUND, Code.METHOD}
    met |= {Code.SUBMISSION, Code.NO_OBJECT, Code.DROP_KEY}
    assert set(Code) - met == set()


def test_every_variable_in_the_code_is_a_setting() -> None:
    """Every `DESIFRE_…` that the code names is in the settings reference."""
    known = {f"DESIFRE_{name.upper()}" for kind in SERVICES.values() for name in kind.model_fields} | LAUNCHER.keys()
    named = {name for path in sources() for name in re.findall(r"DESIFRE_[A-Z][A-Z_]*[A-Z]", path.read_text())}
    assert named - known == set()


def test_every_setting_says_what_it_means() -> None:
    """No setting is without a description."""
    fields = [(name, field) for kind in SERVICES.values() for name, field in kind.model_fields.items()]
    assert [name for name, field in fields if not field.description] == []


def test_every_subject_and_bucket_is_documented() -> None:
    """Every stream, bucket and subject that contracts spell is on the page of events."""
    page = (DOCS / "events.md").read_text()
    names = {name for name in subjects.STREAMS if not name.startswith("KV_")}
    names |= {subjects.DELIVERIES, subjects.CALLBACKS_CONSUMER, f"{subjects.BELL}.callbacks"}
    names |= {subjects.callback("<lane>", "<tenant>", "<job>")}
    names |= {subjects.RECORDS, subjects.CLAIMS, subjects.ENGINES, subjects.KEYS_REVOKED, subjects.USAGE_CONSUMER}
    names |= {f"{subjects.BELL}.jobs", f"{subjects.RELAY}.results"}
    names |= {value.rsplit(".", 1)[1] for name, value in vars(subjects).items() if str(value).startswith("keys.v1.")}
    lane, tenant, job = "<lane>", "<tenant>", "<job>"
    names |= {subjects.job(lane, tenant, job), subjects.part(lane, tenant, job, 7).replace(".7", ".<n>")}
    names |= {subjects.state(tenant, job), subjects.segments(tenant, job), subjects.dead(tenant, job)}
    names |= {subjects.cancel(tenant, job), subjects.SESSIONS, f"{subjects.RELAY}.live"}
    names |= {name("<session>") for name in (subjects.live_open, subjects.live_audio, subjects.live_out)}
    names |= {subjects.live_done("<session>")}
    assert sorted(name for name in names if f"`{name}" not in page and f".{name}`" not in page) == []
