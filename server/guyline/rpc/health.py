"""``grpc.health.v1``: whether the daemon takes calls. It does until it drains."""

import asyncio
from collections.abc import AsyncIterator, Collection

import grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from grpc_health.v1.health_pb2_grpc import HealthServicer

from guyline.rpc.caller import Context


class HealthService(HealthServicer):  # type: ignore[misc]  # untyped upstream
    """Answers for the server as a whole (the empty name) and for each service by name; all share one fate."""

    def __init__(self, *, services: Collection[str], draining: asyncio.Event) -> None:
        self._services = services
        self._draining = draining

    async def Check(  # noqa: N802 (the protocol's name)
        self, request: HealthCheckRequest, context: Context
    ) -> HealthCheckResponse:
        """The status now."""
        if not self._knows(request.service):
            # The health protocol fixes this code, and has no reasons.
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return HealthCheckResponse(status=self._status())

    async def List(  # noqa: N802 (the protocol's name)
        self, _request: HealthListRequest, _context: Context
    ) -> HealthListResponse:
        """The status of all of them."""
        response = HealthCheckResponse(status=self._status())
        return HealthListResponse(statuses=dict.fromkeys(("", *self._services), response))

    async def Watch(  # noqa: N802 (the protocol's name)
        self, request: HealthCheckRequest, _context: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status now and at its change to NOT_SERVING, which is the last."""
        if not self._knows(request.service):
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        elif not self._draining.is_set():
            yield HealthCheckResponse(status=HealthCheckResponse.SERVING)
        await self._draining.wait()
        if self._knows(request.service):
            yield HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)

    def _knows(self, service: str) -> bool:
        return not service or service in self._services

    def _status(self) -> HealthCheckResponse.ServingStatus.ValueType:
        return HealthCheckResponse.NOT_SERVING if self._draining.is_set() else HealthCheckResponse.SERVING
