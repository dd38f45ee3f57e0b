"""Takes a service's handlers from its generated code."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import grpc
import grpc.aio

Handlers: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"
Servicer = TypeVar("Servicer")


def registered(register: Callable[[Servicer, grpc.aio.Server], None], servicer: Servicer) -> tuple[str, Handlers]:
    """The service's full name and its handlers by method, as ``add_XServicer_to_server`` registers them."""
    catcher = _Catcher()
    register(servicer, cast("grpc.aio.Server", catcher))
    return catcher.service, catcher.handlers


class _Catcher:
    """Stands in for the server in a call of generated code."""

    service: str
    handlers: Handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        self.service = service_name
        self.handlers = method_handlers

    def add_generic_rpc_handlers(self, _handlers: Sequence[object]) -> None:
        """The same handlers again, in a form for older servers."""
