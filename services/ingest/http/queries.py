"""Query parameters that a route does not have: told, not passed over, since somebody believed in them."""

from collections.abc import Sequence
from difflib import get_close_matches

from aiohttp import web

from services.contracts.errors import Code, Problem
from services.ingest.http.route import Route
from services.ingest.options import LISTED, shown


def check_query(request: web.Request, route: Route) -> None:
    """Raise `Problem` PARAMETER where the query has what the route does not read."""
    if route.free_query or not request.query:
        return
    known = [param.name for param in route.params if param.where == "query"]
    unknown = sorted({shown(name) for name in request.query if name not in known})
    if unknown:
        listed = ", ".join(f"`{name}`{_hint(name, known)}" for name in unknown[:LISTED])
        if len(unknown) > LISTED:
            listed += f" and {len(unknown) - LISTED} more"
        there_are = ", ".join(f"`{name}`" for name in known) or "none"
        detail = f"Unknown: {listed}. Known here: {there_are}."
        raise Problem(Code.PARAMETER, detail, parameters=unknown[:LISTED], known=known)


def _hint(unknown: str, known: Sequence[str]) -> str:
    near = get_close_matches(unknown.lower(), known, n=1, cutoff=0.6)
    return f" (meant: `{near[0]}`?)" if near else ""
