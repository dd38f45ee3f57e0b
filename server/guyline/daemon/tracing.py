"""OpenTelemetry, if its standard variables ask for it.

Only then anything of it is imported: the API alone takes as long as all of a small daemon.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from guyline.daemon.logging import get_logger

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"

# What is not sent by then is lost: a collector that is away must not hold a shutdown up.
_FLUSH_SECONDS = 2.0


class ExtraMissing(Exception):
    """A package that was asked for is not installed. Says which extra has it."""


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """Whether the environment names a collector."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return any(environment.get(name) for name in (_ENDPOINT, _TRACES_ENDPOINT, _METRICS_ENDPOINT))


class Telemetry:
    """Sends traces and metrics to the collector that the environment names, until the ``async with`` block ends.

    What is sent, where and how is OpenTelemetry's own business: it reads the ``OTEL_*`` variables itself.

    Raises:
        ExtraMissing: On creation.
    """

    def __init__(self, environment: Mapping[str, str], *, service_name: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415 (late, see above)
                OTLPMetricExporter,
            )
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 (late, see above)
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 (late, see above)
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 (late)
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (late, see above)
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (late, see above)
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (late, see above)
        except ImportError as why:
            raise ExtraMissing(
                f"the OTEL_* variables ask for telemetry, but {why.name} is missing; pip install 'guyline[otel]'"
            ) from why
        name = environment.get("OTEL_SERVICE_NAME") or service_name
        resource = Resource.create({"service.name": name})
        self._log = get_logger(__name__)
        self._traces = TracerProvider(resource=resource)
        if _wants(environment, "OTEL_TRACES_EXPORTER", _TRACES_ENDPOINT):
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        wants_metrics = _wants(environment, "OTEL_METRICS_EXPORTER", _METRICS_ENDPOINT)
        readers = [PeriodicExportingMetricReader(OTLPMetricExporter())] if wants_metrics else []
        self._metrics = MeterProvider(readers, resource=resource)

        def shut_down_traces() -> None:
            self._traces.shutdown()

        def shut_down_metrics() -> None:
            self._metrics.shutdown(timeout_millis=_FLUSH_SECONDS * 1000)

        self._shut_down: tuple[Callable[[], None], ...] = (shut_down_traces, shut_down_metrics)

    @property
    def tracer(self) -> "Tracer":
        """Makes spans."""
        return self._traces.get_tracer("guyline")

    @property
    def meter(self) -> "Meter":
        """Makes instruments."""
        return self._metrics.get_meter("guyline")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Sends what is left, within a bounded time."""
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await asyncio.gather(*map(_run_aside, self._shut_down))
        except TimeoutError:
            self._log.warning("telemetry not sent in time", seconds=_FLUSH_SECONDS)


async def _run_aside(function: Callable[[], None]) -> None:
    """Runs it in a thread that nobody waits for at the end: an executor's would hold up the exit."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def run() -> None:
        function()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="telemetry", daemon=True).start()
    await done.wait()


def _wants(environment: Mapping[str, str], exporter: str, endpoint: str) -> bool:
    if environment.get(exporter, "otlp").lower() == "none":
        return False
    return bool(environment.get(endpoint) or environment.get(_ENDPOINT))
