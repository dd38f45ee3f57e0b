"""Who watches a daemon's calls: its log always, Prometheus and OpenTelemetry if they are asked for."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from guyline.daemon.address import TcpAddress
from guyline.daemon.metrics import Metrics, NoMetrics, PrometheusMetrics
from guyline.daemon.metrics_server import MetricsServer
from guyline.daemon.tracing import Telemetry, is_asked_for
from guyline.rpc.access_log import AccessLog
from guyline.rpc.call import CallObserver
from guyline.rpc.call_metrics import CallMetrics
from guyline.rpc.server import CannotListen


class Observation:
    """``metrics`` for whoever counts, and ``observers`` for the server, within its ``async with`` block.

    Args:
        metrics_address: Where Prometheus asks. None: nothing is counted.
        environment: Its ``OTEL_*`` variables say whether traces and metrics are sent, and where.
        service_name: What telemetry calls this daemon, unless the environment does.

    Raises:
        ExtraMissing: On entering, if telemetry is asked for and not installed.
        CannotListen: On entering, if the metrics' address cannot be listened on.
    """

    def __init__(
        self, *, metrics_address: TcpAddress | None, environment: Mapping[str, str], service_name: str
    ) -> None:
        self._prometheus = PrometheusMetrics() if metrics_address else None
        self.metrics: Metrics = self._prometheus or NoMetrics()
        self.observers: list[CallObserver] = [AccessLog(), CallMetrics(self.metrics)]
        self._metrics_address = metrics_address
        self._environment = environment
        self._service_name = service_name
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if is_asked_for(self._environment):
                from guyline.rpc.call_tracing import CallTracing  # noqa: PLC0415 - OpenTelemetry takes 60 ms to import

                telemetry = Telemetry(self._environment, service_name=self._service_name)
                await stack.enter_async_context(telemetry)
                self.observers.append(CallTracing(telemetry.tracer, telemetry.meter))
            if self._prometheus and self._metrics_address:
                server = MetricsServer(self._prometheus.registry, self._metrics_address)
                try:
                    await stack.enter_async_context(server)
                except OSError as why:
                    raise CannotListen(f"cannot show metrics on {self._metrics_address}: {why.strerror}") from why
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)
