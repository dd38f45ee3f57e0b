"""Counts calls, as an observer of them."""

from guyline.daemon.metrics import Metrics
from guyline.rpc.call import Call

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

# A stranger may make up any number of method names.
_UNKNOWN = "unknown"


class CallMetrics:
    """How many calls began and ended, how, how long they took, and what went each way."""

    def __init__(self, metrics: Metrics) -> None:
        self._started = metrics.counter("rpc_started", "calls that came in", ["rpc"])
        self._ended = metrics.counter("rpc_ended", "calls that are over, by status code", ["rpc", "code"])
        self._seconds = metrics.histogram("rpc_seconds", "how long unary calls took", _BUCKETS, ["rpc"])
        self._messages = metrics.counter("rpc_messages", "messages, in or out", ["rpc", "direction"])
        self._bytes = metrics.counter("rpc_bytes", "bytes of messages, in or out", ["rpc", "direction"])

    def began(self, call: Call) -> None:
        """Counts a call that came in."""
        self._started.add(1, _label(call))

    def admitted(self, call: Call) -> None:
        """Nothing to count."""

    def ended(self, call: Call) -> None:
        """Counts a call that is over."""
        rpc = _label(call)
        self._ended.add(1, rpc, call.code.name)
        if not call.streams:
            self._seconds.observe(call.seconds, rpc)
        self._messages.add(call.messages_in, rpc, "in")
        self._messages.add(call.messages_out, rpc, "out")
        self._bytes.add(call.bytes_in, rpc, "in")
        self._bytes.add(call.bytes_out, rpc, "out")


def _label(call: Call) -> str:
    return call.rpc if call.known else _UNKNOWN
