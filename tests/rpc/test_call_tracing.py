"""Traces and metrics of calls, as a collector gets them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.daemon.tracing import ExtraMissing, Telemetry, is_asked_for
from guyline.rpc.call_tracing import CallTracing
from guyline.rpc.caller import Context
from tests.rpc.serving import Puppet, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.metrics: list[str] = []
        self.endpoint = ""

    async def serve(self) -> AsyncIterator["Collector"]:
        server = grpc.aio.server()
        add_traces: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server  # generated, untyped
        add_metrics: Any = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
        add_traces(_Traces(self), server)
        add_metrics(_Metrics(self), server)
        self.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        yield self
        await server.stop(None)


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(  # noqa: N802 (the protocol's name)
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: Context
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self._collector.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(  # noqa: N802 (the protocol's name)
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, _context: Context
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self._collector.metrics += [metric.name for metric in scope.metrics]
        return metrics_service_pb2.ExportMetricsServiceResponse()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async for each in Collector().serve():
        yield each


async def test_a_call_is_a_span_below_its_callers_with_a_duration_beside_it(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trace goes from the tool that asked to the process that ran, whoever is in between."""
    seen: list[int] = []

    async def handle(_context: Context) -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    telemetry = await asyncio.to_thread(
        lambda: Telemetry({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}, service_name="guyline-agent")
    )
    async with (
        telemetry,
        serving(Puppet(handle=handle), observers=(CallTracing(telemetry.tracer, telemetry.meter),)) as served,
    ):
        metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
        await served.processes.List(pb.ProcessServiceListRequest(), metadata=metadata)

    [span] = collector.spans
    assert (span.name, span.kind) == ("guyline.agent.v1.ProcessService/List", Span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert f"{seen[0]:032x}" == TRACE
    assert collector.metrics == ["rpc.server.duration"]


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_telemetry_is_on_only_where_the_standard_variables_say_so(environment: dict[str, str], asked: bool) -> None:
    """A daemon sends nothing anywhere by itself."""
    assert is_asked_for(environment) is asked


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets the variables has to know why nothing comes."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ExtraMissing, match=r"guyline\[otel\]"):
        Telemetry({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, service_name="x")


def test_nothing_of_it_is_imported_to_find_out() -> None:
    """It would double the time of a start."""
    program = "import sys, guyline.daemon.tracing, guyline.rpc.server; print('opentelemetry' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "False\n"
