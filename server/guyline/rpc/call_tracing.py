"""A span and a duration for every call, as an observer of them. Imported only where telemetry is asked for."""

from opentelemetry import context as otel_context
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from guyline.rpc.call import Call

_UNKNOWN = "unknown"


class CallTracing:
    """The caller's ``traceparent`` becomes the span's parent, and the span that of all that the handler makes."""

    def __init__(self, tracer: Tracer, meter: Meter) -> None:
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._spans: dict[Call, Span] = {}
        self._seconds = meter.create_histogram("rpc.server.duration", unit="s", description="how long calls took")

    def began(self, call: Call) -> None:
        """Starts the span, in the call's own task: nothing needs to be detached."""
        service, _, method = call.rpc.partition("/")
        parent = self._propagator.extract(dict(call.metadata.items()))
        span = self._tracer.start_span(
            call.rpc if call.known else _UNKNOWN,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        otel_context.attach(set_span_in_context(span, parent))
        self._spans[call] = span

    def admitted(self, call: Call) -> None:
        """Adds the chat, if there is one."""
        if call.caller is not None and call.caller.chat_id is not None:
            self._spans[call].set_attribute("guyline.chat_id", call.caller.chat_id)

    def ended(self, call: Call) -> None:
        """Ends the span."""
        span = self._spans.pop(call)
        span.set_attribute("rpc.grpc.status_code", call.code.value[0])
        if call.reason:
            span.set_attribute("guyline.reason", call.reason)
        if call.code.value[0]:
            span.set_status(StatusCode.ERROR, call.reason or call.code.name)
        span.end()
        rpc = call.rpc if call.known else _UNKNOWN
        self._seconds.record(call.seconds, {"rpc.method": rpc, "rpc.grpc.status_code": call.code.value[0]})
