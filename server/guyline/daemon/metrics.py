"""Numbers about the daemon for Prometheus, if somebody asked for them.

Whoever counts is given ``Metrics``, and cannot tell whether anybody listens.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "guyline_"


class Counter(Protocol):
    """A sum that only grows."""

    def add(self, amount: float, *labels: str) -> None:
        """Adds to the sum of these label values, in the order in which the labels were named."""
        ...


class Histogram(Protocol):
    """How values are spread."""

    def observe(self, value: float, *labels: str) -> None:
        """Counts one value."""
        ...


class Metrics(Protocol):
    """Where metrics are made, each once. Names come without ``guyline_``, with their unit (``seconds``, ``bytes``).

    Labels have few values, and none that a stranger chooses.
    """

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter."""
        ...

    def histogram(self, name: str, description: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        """A new histogram with these upper bounds."""
        ...

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """A value that is read whenever somebody asks for the metrics, on the event loop: ``read`` must be quick."""
        ...


class NoMetrics:
    """Counts nothing."""

    def counter(self, _name: str, _description: str, _labels: Sequence[str] = ()) -> Counter:
        """A counter that does not count."""
        return _Nothing()

    def histogram(
        self, _name: str, _description: str, _buckets: Sequence[float], _labels: Sequence[str] = ()
    ) -> Histogram:
        """A histogram that does not count."""
        return _Nothing()

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Never reads it."""


class _Nothing:
    def add(self, amount: float, *labels: str) -> None:
        pass

    def observe(self, value: float, *labels: str) -> None:
        pass


class PrometheusMetrics:
    """Metrics in a registry of prometheus_client, which is imported with the first of these."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 (50 ms that only those pay who asked)

        self._registry = CollectorRegistry()

    @property
    def registry(self) -> "CollectorRegistry":
        """What ``MetricsServer`` shows."""
        return self._registry

    def counter(self, name: str, description: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter; it is shown as ``guyline_NAME_total``."""
        return _PrometheusCounter(PREFIX + name, description, labels, self._registry)

    def histogram(self, name: str, description: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        """A new histogram."""
        return _PrometheusHistogram(PREFIX + name, description, labels, buckets, self._registry)

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """A new gauge."""
        from prometheus_client import Gauge  # noqa: PLC0415 (as above)

        Gauge(PREFIX + name, description, registry=self._registry).set_function(read)


class _PrometheusCounter:
    def __init__(self, name: str, description: str, labels: Sequence[str], registry: "CollectorRegistry") -> None:
        from prometheus_client import Counter as Made  # noqa: PLC0415 (as above)

        self._made = Made(name, description, labels, registry=registry)

    def add(self, amount: float, *labels: str) -> None:
        (self._made.labels(*labels) if labels else self._made).inc(amount)


class _PrometheusHistogram:
    def __init__(
        self,
        name: str,
        description: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: "CollectorRegistry",
    ) -> None:
        from prometheus_client import Histogram as Made  # noqa: PLC0415 (as above)

        self._made = Made(name, description, labels, buckets=buckets, registry=registry)

    def observe(self, value: float, *labels: str) -> None:
        (self._made.labels(*labels) if labels else self._made).observe(value)
