"""Numbers about processes."""

from guyline.agentd.process.exit import Exit
from guyline.daemon.metrics import Metrics

_SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36000.0)
_BYTES = (0.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)


class ProcessMetrics:
    """How many started, how they ended, how long they ran, how much they printed, what readers missed."""

    def __init__(self, metrics: Metrics) -> None:
        self._started = metrics.counter("processes_started", "commands that were spawned")
        self._refused = metrics.counter("process_starts_refused", "starts that failed, by reason", ["reason"])
        self._ended = metrics.counter("processes_ended", "commands that ended, by who brought it about", ["ended_by"])
        self._seconds = metrics.histogram("process_seconds", "how long commands ran", _SECONDS)
        self._bytes = metrics.histogram("process_output_bytes", "how much commands printed", _BYTES)
        self._gaps = metrics.counter("output_gaps", "gaps that readers of output were told of")

    def started(self) -> None:
        self._started.add(1)

    def refused(self, reason: str) -> None:
        self._refused.add(1, reason)

    def ended(self, exit_: Exit, *, seconds: float, output_bytes: int) -> None:
        self._ended.add(1, exit_.ended_by.value or "unknown")
        self._seconds.observe(max(0.0, seconds))
        self._bytes.observe(output_bytes)

    def gap(self) -> None:
        self._gaps.add(1)
