"""The pages of the docs that are made from the code: `python -m tests.docs.pages` writes them anew."""

import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from pydantic_core import PydanticUndefined

from infra.stack.home import DEFAULT_MIN_FREE_BYTES
from services.contracts.asyncapi import document
from services.contracts.errors import ERRORS, Code
from services.contracts.jobs import Options
from services.ingest.callbacks.policy import Policy
from services.ingest.http import ops
from services.ingest.http.deepgram import DeepgramRoutes
from services.ingest.http.deliveries import DeliveryRoutes
from services.ingest.http.docs import Docs
from services.ingest.http.jobs import JobRoutes
from services.ingest.http.keys import KeyRoutes
from services.ingest.http.media import MediaRoutes
from services.ingest.http.models import ModelRoutes
from services.ingest.http.openai import OpenAIRoutes
from services.ingest.http.openapi import errors_of
from services.ingest.http.page import PageRoutes
from services.ingest.http.reference import COMMON_ERRORS, KEY_ERRORS
from services.ingest.http.route import Route
from services.ingest.http.shares import ShareRoutes
from services.ingest.http.socket import SocketRoutes
from services.ingest.http.status import StatusRoutes
from services.ingest.http.store_events import StoreEvents
from services.ingest.http.streams import StreamRoutes
from services.ingest.http.transcribe import Transcribe
from services.ingest.http.uploads import UploadRoutes
from services.ingest.http.versions import VersionRoutes
from services.ingest.http.webhooks import WebhookRoutes
from services.ingest.limits import Bodies
from services.ingest.options import ALIASES, REFUSED
from services.ingest.problems import PROBLEM
from services.ingest.settings import Settings as IngestSettings
from services.keys.settings import KeysSettings
from services.runtime.health import Health
from services.runtime.metrics import Metrics
from services.runtime.settings import Settings
from services.transcriber.settings import TranscriberSettings

DOCS = Path(__file__).parents[2] / "docs"
SERVICES: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "keys": KeysSettings,
    "transcriber": TranscriberSettings,
}
LAUNCHER = {
    "DESIFRE_MIN_FREE_BYTES": (str(DEFAULT_MIN_FREE_BYTES), "room on the disk below which the launcher does not start"),
    "DESIFRE_STORE_KIND": ("seaweedfs", "the object store that the launcher starts: `seaweedfs` or `minio`"),
    "DESIFRE_URL": ("http://127.0.0.1:3333", "of the command line: where the service listens"),
    "DESIFRE_KEY": ("none", "of the command line: your API key"),
}
"""What only the launcher and the command line read."""


def route_table() -> list[Route]:
    """Every route, as the composition root collects them; the handlers' collaborators are not there."""
    none = cast(Any, None)
    settings = IngestSettings()
    return Docs(
        [
            *Transcribe(none, none, none, 1).routes(),
            *JobRoutes(none, none, none, none, none, 1).routes(),
            *OpenAIRoutes(none, none, none, none, settings).routes(),
            *StreamRoutes(none, none, none, settings).routes(),
            *SocketRoutes(none, none, none, none, none, settings).routes(),
            *DeepgramRoutes(none, none, none, none, none, none, settings).routes(),
            *DeliveryRoutes(none, none, none).routes(),
            *ModelRoutes(none, settings).routes(),
            *UploadRoutes(none, none).routes(),
            *KeyRoutes(none, none, Bodies(settings), settings).routes(),
            *WebhookRoutes(none, none, Bodies(settings), Policy(), none).routes(),
            *StoreEvents(none, Bodies(settings), settings).routes(),
            *VersionRoutes(none, none).routes(),
            *ShareRoutes(none, none, none, none, none, settings).routes(),
            *MediaRoutes(none, none, none, none, settings).routes(),
            *PageRoutes(none).routes(),
            *StatusRoutes(none, none, none, none, none).routes(),
            *ops.routes(Health(), Metrics()),
        ]
    ).all_routes()


def settings_page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read once when a process starts. `desifre up` hands what you set to every process; of",
        "addresses and passwords it makes its own. Generated from the code by `python -m tests.docs.pages`.",
        "",
        "## Every process",
        *_settings_table(Settings, ()),
    ]
    for name, kind in SERVICES.items():
        lines += ["", f"## {name}", *_settings_table(kind, Settings.model_fields)]
    lines += ["", "## The launcher", "", "| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | `{default}` | {text} |" for name, (default, text) in LAUNCHER.items()]
    return "\n".join(lines) + "\n"


def _settings_table(kind: type[Settings], without: Iterable[str]) -> list[str]:
    rows = [
        f"| `DESIFRE_{name.upper()}` | {_default(field.default)} | {_cell(field.description or '')} |"
        for name, field in kind.model_fields.items()
        if name not in without
    ]
    return ["", "| setting | default | meaning |", "|---|---|---|", *rows]


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "must be set"
    if value is None or value == "" or str(value) == "":
        return "unset"
    if isinstance(value, tuple | dict):
        return f"`{json.dumps(value)}`"
    shown = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    return f"`{shown}`" if shown != "" else "unset"


def errors_page() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "An error is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, a stable `code`, often a",
        "`detail`, a `remedy` and the `request_id` that the log knows it by (also in the header `x-request-id`).",
        "Some codes add members: `available` models, `options`, `known` ones, `reasons`, a job's `failure`, `job_id`.",
        "Where waiting helps there is `Retry-After` in seconds.",
        "",
        "Generated from the code by `python -m tests.docs.pages`.",
        "",
        "| code | status | meaning | what to do | again? |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {kind.status} | {kind.title} | {_cell(kind.remedy)} | {'yes' if kind.retryable else ''} |"
        for code, kind in ERRORS.items()
    ]
    return "\n".join(lines) + "\n"


def http_page() -> str:
    """docs/http.md: what is written by hand, and after the mark the routes and options."""
    written, mark, _ = (DOCS / "http.md").read_text().partition(MARK)
    return written + mark + "\n\n" + "\n".join([*_options(), *map(_route, route_table())]).rstrip() + "\n"


MARK = "<!-- From here on generated from the code by `python -m tests.docs.pages`. -->"


def _options() -> list[str]:
    other = {option: alias for alias, option in ALIASES.items()}
    fields = Options.model_json_schema()["properties"]
    rows = [
        f"| `{name}` | {f'`{other[name]}`' if name in other else ''} | {_cell(_values(field))} |"
        for name, field in fields.items()
    ]
    return [
        "## Options",
        "",
        "| option | also | values |",
        "|---|---|---|",
        *rows,
        "",
        "Refused, each with its reason: " + ", ".join(f"`{name}`" for name in REFUSED) + ".",
        "",
        "## Routes",
        "",
        "Of the [errors](errors.md) any route may answer "
        + ", ".join(f"`{code}`" for code in COMMON_ERRORS)
        + ", and any",
        "route with a key " + ", ".join(f"`{code}`" for code in KEY_ERRORS) + "; the others stand at each route.",
        f"A parameter in the query that a route does not list is `{Code.PARAMETER}`, but for the doors that take",
        "options there (`option_unknown`), the addresses of other APIs, and those that browsers and monitors ask for.",
        "",
    ]


def _values(field: dict[str, Any]) -> str:
    kinds = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    [kind] = kinds
    words = [str(kind.get("type", "")).replace("boolean", "true or false").replace("array", "numbers and commas")]
    words += [" or ".join(f"`{value}`" for value in kind["enum"])] if "enum" in kind else []
    bounds = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "maxLength": "up to",
        "maxItems": "up to",
    }
    words += [f"{word} {kind[name]}" for name, word in bounds.items() if name in kind]
    if field.get("default") is not None:
        words.append(f"(`{json.dumps(field['default'])}`)".replace('"', ""))
    if "description" in field:
        words.append(f"- {field['description']}")
    return " ".join(word for word in words if word)


def _route(route: Route) -> str:
    lines = [f"### `{route.method} {route.path}`", "", f"{route.summary}."]
    lines[-1] += f" Scope `{route.scope}`." if route.scope else " No key."
    if route.params:
        lines += ["", "| parameter | in | meaning |", "|---|---|---|"]
        lines += [f"| `{param.name}` | {param.where} | {_cell(param.text)} |" for param in route.params]
    if route.body and route.body.json and not route.body.recording:
        fields = route.body.json.model_fields.items()
        lines += ["", "| field of the JSON body | must | meaning |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {'yes' if field.is_required() else ''} | {_cell(field.description or '')} |"
            for name, field in fields
        ]
    lines += [""]
    lines += [f"- **{status}** {answer.text}" for status, answer in route.answers.items()]
    if errors := [code for code in errors_of(route) if code not in (*COMMON_ERRORS, *KEY_ERRORS, Code.PARAMETER)]:
        shape = "" if route.shape is PROBLEM else ", in OpenAI's shape"
        lines += [f"- errors{shape}: " + ", ".join(f"`{code}`" for code in errors)]
    lines += [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def asyncapi() -> str:
    """docs/asyncapi.json."""
    return json.dumps(document(version("desifre")), indent=1) + "\n"


def known_settings() -> str:
    """infra/stack/known.py: the launcher imports no service and knows their settings by name alone."""
    names = sorted({name.upper() for kind in SERVICES.values() for name in kind.model_fields})
    listed = "".join(f'        "DESIFRE_{name}",\n' for name in names)
    return f'''"""Every setting of the services, for the launcher. Made by `python -m tests.docs.pages`."""

SETTINGS = frozenset(
    (
{listed}    )
)
'''


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "http.md": http_page,
    "asyncapi.json": asyncapi,
    "../infra/stack/known.py": known_settings,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make())
