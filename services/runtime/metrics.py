"""Prometheus metrics of one process, in a registry of its own (nothing global)."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Makes metrics, all named `desifre_…`, and renders them. Labels never hold what a user chose freely."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows."""
        return Counter(f"desifre_{name}", text, labels, registry=self._registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return Gauge(f"desifre_{name}", text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        """A distribution, in seconds unless the name says otherwise."""
        return Histogram(f"desifre_{name}", text, labels, registry=self._registry, buckets=buckets)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)
