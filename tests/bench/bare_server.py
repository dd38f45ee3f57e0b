"""A grpc.aio server that does nothing but answer: what gRPC alone costs, in a process of its own.

    python -m tests.bench.bare_server SOCKET

Health answers at once. ``Run`` with argv ``[MESSAGES, BYTES]`` streams that many messages of that size.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from guyline.agent.v1.process_service_pb2 import RunRequest, RunResponse


async def _run(request: RunRequest, context: object) -> AsyncIterator[RunResponse]:
    del context
    messages, size = map(int, request.start.argv)
    data = bytes(size)
    for number in range(messages):
        yield RunResponse(offset=number * size, data=data)


async def _serve(socket: str) -> None:
    server = grpc.aio.server()
    add_HealthServicer_to_server(HealthServicer(), server)
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Run": grpc.unary_stream_rpc_method_handler(_run, RunRequest.FromString, RunResponse.SerializeToString)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("guyline.agent.v1.ProcessService", methods)])
    server.add_insecure_port(f"unix:{socket}")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    await stop.wait()
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
