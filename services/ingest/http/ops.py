"""/livez, /readyz and /metrics on the service's own port; the handlers are those that every process has."""

from services.ingest.http.route import Answer, Route
from services.runtime.health import Health, ops_routes
from services.runtime.metrics import Metrics

_TEXTS = {
    "/livez": ("Whether the process turns", {200: Answer("It does")}),
    "/readyz": (
        "Whether everything that it needs answers",
        {200: Answer("Each dependency by name"), 503: Answer("One or more do not answer")},
    ),
    "/metrics": ("Metrics for Prometheus", {200: Answer("The exposition text", media=("text/plain",))}),
}


def routes(health: Health, metrics: Metrics) -> list[Route]:
    """The three routes, with what the reference says of each."""
    return [
        Route(
            found.method,
            found.path,
            found.handler,
            summary=_TEXTS[found.path][0],
            answers=_TEXTS[found.path][1],
            free_query=True,
        )
        for found in ops_routes(health, metrics)
    ]
