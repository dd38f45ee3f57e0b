"""Metrics, as Prometheus gets them."""

import asyncio
import subprocess
import sys

from guyline.daemon.address import TcpAddress
from guyline.daemon.metrics import NoMetrics, PrometheusMetrics
from guyline.daemon.metrics_server import MetricsServer
from guyline.rpc.call import Call
from guyline.rpc.call_metrics import CallMetrics
from guyline.rpc.metadata import Metadata
from tests.support.clock import DEADLINE

ANY_PORT = TcpAddress("127.0.0.1", 0)


async def ask(server: MetricsServer, request: bytes) -> bytes:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


async def test_a_scrape_shows_counters_gauges_and_histograms() -> None:
    """All that operators see of a daemon that they do not log in to."""
    metrics = PrometheusMetrics()
    metrics.counter("bytes_lost", "bytes", ["why"]).add(3, "disk_full")
    metrics.gauge("processes", "running", lambda: 7)
    metrics.histogram("seconds", "time", [1.0]).observe(0.5)
    async with MetricsServer(metrics.registry, ANY_PORT) as server:
        answer = await ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'guyline_bytes_lost_total{why="disk_full"} 3.0' in answer
    assert b"guyline_processes 7.0" in answer
    assert b'guyline_seconds_bucket{le="1.0"} 1.0' in answer


async def test_anything_else_is_refused() -> None:
    """It is no web server."""
    async with MetricsServer(PrometheusMetrics().registry, ANY_PORT) as server:
        elsewhere = await ask(server, b"GET / HTTP/1.1\r\n\r\n")
        otherwise = await ask(server, b"POST /metrics HTTP/1.1\r\n\r\n")
        endless = await ask(server, b"x" * 20_000)

    assert elsewhere.startswith(b"HTTP/1.1 404 ")
    assert otherwise.startswith(b"HTTP/1.1 405 ")
    assert endless == b""


async def test_a_scraper_that_says_nothing_does_not_hold_the_end_up() -> None:
    """Leaving the block ends what is open."""
    async with asyncio.timeout(DEADLINE):
        async with MetricsServer(PrometheusMetrics().registry, ANY_PORT) as server:
            reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_calls_are_counted_by_method_and_code_and_strangers_names_are_no_labels() -> None:
    """A label for every name that somebody makes up would fill the memory."""
    metrics = PrometheusMetrics()
    observer = CallMetrics(metrics)
    for rpc, known in (("a.B/C", True), ("made/up", False)):
        call = Call(rpc=rpc, known=known, streams=False, metadata=Metadata(()), request_id="r", bytes_in=5)
        observer.began(call)
        observer.admitted(call)
        observer.ended(call)
    async with MetricsServer(metrics.registry, ANY_PORT) as server:
        answer = await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")

    assert b'guyline_rpc_ended_total{code="OK",rpc="a.B/C"} 1.0' in answer
    assert b'guyline_rpc_bytes_total{direction="in",rpc="a.B/C"} 5.0' in answer
    assert b'rpc="unknown"' in answer
    assert b"made/up" not in answer


def test_where_nobody_asked_nothing_is_imported_or_counted() -> None:
    """The library costs 50 ms of a start."""
    CallMetrics(NoMetrics())
    program = "import sys, guyline.daemon.metrics, guyline.rpc.call_metrics; print('prometheus_client' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout == "False\n"
