"""The services that every gRPC server has: health and reflection.

Their modules are imported at the first call that asks for them: hardly any daemon's life has one, and its start should
not wait for them.
"""

import asyncio
from collections.abc import Collection
from dataclasses import replace

from guyline.rpc.method import Method, to_methods
from guyline.rpc.registration import registered

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
# The same messages under the name that newer tools ask for first.
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


def is_standard(rpc: str) -> bool:
    """Whether ``package.Service/Method`` may be one of these."""
    return rpc.startswith((f"{HEALTH}/", f"{REFLECTION}/", f"{REFLECTION_V1}/"))


def standard_methods(services: Collection[str], *, draining: asyncio.Event) -> list[Method]:
    """Health and reflection of a server with these services. Imports what they need: up to 0.1 s, once.

    Args:
        services: Full names.
        draining: Set once the server takes no more calls.
    """
    return [*_health(services, draining), *_reflection(services)]


def _health(services: Collection[str], draining: asyncio.Event) -> list[Method]:
    from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server  # noqa: PLC0415 (late, see above)

    from guyline.rpc.health import HealthService  # noqa: PLC0415 (late, see above)

    servicer = HealthService(services=services, draining=draining)
    _, handlers = registered(add_HealthServicer_to_server, servicer)
    return to_methods(HEALTH, handlers, served_while_draining=True)


def _reflection(services: Collection[str]) -> list[Method]:
    from grpc_reflection.v1alpha.reflection import aio  # noqa: PLC0415 (late, see above)
    from grpc_reflection.v1alpha.reflection_pb2_grpc import (  # noqa: PLC0415 (late, see above)
        add_ServerReflectionServicer_to_server,
    )

    servicer = aio.ReflectionServicer((*services, HEALTH, REFLECTION))
    _, handlers = registered(add_ServerReflectionServicer_to_server, servicer)
    methods = to_methods(REFLECTION, handlers)
    return [*methods, *(replace(each, rpc=each.rpc.replace(REFLECTION, REFLECTION_V1)) for each in methods)]
