"""The reference as a page: plain HTML from the table of routes, nothing from outside."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterable
from html import escape

from aiohttp import web

from services.contracts.errors import ERRORS
from services.contracts.jobs import Options
from services.ingest.http.openapi import document, errors_of
from services.ingest.http.route import Answer, Route
from services.ingest.options import ALIASES, REFUSED

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { padding: .8rem 1rem; overflow-x: auto; background: #8882; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884; }
h2 { margin-top: 2.5rem; } h3 { margin-top: 2rem; }
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "Referrer-Policy": "no-referrer",
}
_HTML = {200: Answer("The page", media=("text/html",))}


class Docs:
    """`/openapi.json` and `/docs`. `others` are all routes but these."""

    def __init__(self, others: Iterable[Route]) -> None:
        self._others = tuple(others)
        self._openapi = b""

    def routes(self) -> list[Route]:
        """Both routes."""
        return [
            Route(
                "GET",
                "/openapi.json",
                self.openapi,
                "This reference for programs",
                {200: Answer("OpenAPI 3.1")},
                free_query=True,
            ),
            Route("GET", "/docs", self.docs, "This reference", _HTML, free_query=True),
        ]

    def all_routes(self) -> list[Route]:
        """Every route of the service, in the order of the reference."""
        return [*self._others, *self.routes()]

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        """The document."""
        if not self._openapi:
            # Tens of milliseconds, once: too long for the event loop.
            self._openapi = await asyncio.to_thread(lambda: json.dumps(document(self.all_routes())).encode())
        return web.Response(body=self._openapi, content_type="application/json")

    async def docs(self, _: web.Request) -> web.StreamResponse:
        """The reference, readable."""
        routes = self.all_routes()
        contents = "".join(
            f'<li><a href="#{_anchor(r)}"><code>{r.method} {escape(r.path)}</code></a> {r.summary}</li>' for r in routes
        )
        return _page(
            "desifre: HTTP reference",
            f"<p>Send your key in <code>x-api-key</code> or as <code>Authorization: Bearer</code>. Times are seconds; "
            f'points in time are Unix seconds. For programs: <a href="/openapi.json">/openapi.json</a>.</p>'
            f"<h2>Routes</h2><ul>{contents}</ul>{''.join(map(_route, routes))}"
            f'<h2 id="options">Options</h2>{_options()}<h2 id="errors">Errors</h2>{_errors()}',
        )


def _page(title: str, body: str) -> web.Response:
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}</body></html>"
    )
    return web.Response(text=text, content_type="text/html", headers=_HEADERS)


def _anchor(route: Route) -> str:
    return f"{route.method}-{route.path}".lower().translate(str.maketrans("/{}", "-__"))


def _route(route: Route) -> str:
    key = f"Needs a key with the scope <code>{route.scope}</code>." if route.scope else "Needs no key."
    params = _table(
        ("parameter", "in", "meaning"), ((f"<code>{p.name}</code>", p.where, _text(p.text)) for p in route.params)
    )
    answers = ((str(status), _text(answer.text)) for status, answer in route.answers.items())
    errors = ", ".join(f'<a href="#error-{code}"><code>{code}</code></a>' for code in errors_of(route))
    takes = (
        ' Takes a form with the field <code>file</code>, the recording itself, or JSON; <a href="#options">options</a>.'
    )
    return (
        f'<h3 id="{_anchor(route)}"><code>{route.method} {escape(route.path)}</code></h3>'
        f"<p>{route.summary}. {key}{takes if route.body and route.body.recording else ''}</p>{params}"
        f"{_table(('status', 'answer'), answers)}<p>Errors: {errors}.</p>"
    )


def _options() -> str:
    other = {option: alias for alias, option in ALIASES.items()}
    fields = Options.model_json_schema()["properties"]
    rows = (
        (f"<code>{name}</code>", f"<code>{other[name]}</code>" if name in other else "", _bounds(field))
        for name, field in fields.items()
    )
    refused = ((f"<code>{name}</code>", _text(reason)) for name, reason in REFUSED.items())
    return (
        f"{_table(('option', 'also', 'values'), rows)}<p>Refused, with the reason:</p>"
        f"{_table(('option', 'why'), refused)}"
    )


def _bounds(field: dict[str, object]) -> str:
    shown = {name: value for name, value in field.items() if name != "title"}
    return f"<code>{escape(str(shown))}</code>"


def _errors() -> str:
    rows = (
        (f'<code id="error-{code}">{code}</code>', str(kind.status), _text(kind.title), _text(kind.remedy))
        for code, kind in ERRORS.items()
    )
    return _table(("code", "status", "meaning", "what to do"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>" if body else ""


def _text(text: str) -> str:
    """Prose with `code` in backticks, as HTML."""
    return "".join(
        f"<code>{escape(piece)}</code>" if n % 2 else escape(piece) for n, piece in enumerate(text.split("`"))
    )
