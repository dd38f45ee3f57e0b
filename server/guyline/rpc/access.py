"""Which right a method needs: said by its own option, and for services that are not ours in one table."""

from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor

from guyline.access.v1 import access_pb2
from guyline.daemon.caller import Caller, Right
from guyline.errors import RightMissing


@dataclass(frozen=True)
class Access:
    """Who may call a method."""

    right: Right | None = None
    """None: no right is needed."""

    everybody: bool = False
    """Also those who do not say who they are; nobody is asked."""

    def demand(self, caller: Caller) -> None:
        """Lets the caller pass.

        Raises:
            RightMissing: If they lack the right.
        """
        if self.right is not None and self.right not in caller.rights:
            name = self.right.name.lower()
            raise RightMissing(f"{caller.name} lacks the right to {name}, which this method needs", right=name)


EVERYBODY = Access(everybody=True)
AUTHENTICATED = Access()

# Services whose protos are fixed by others and say nothing of rights.
_FOREIGN = {
    "grpc.health.v1.Health": EVERYBODY,
    "grpc.reflection.v1alpha.ServerReflection": AUTHENTICATED,
}


class MethodWithoutRight(Exception):
    """A method does not say which right it needs, so nobody may serve it."""

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} has no option (guyline.access.v1.needs); give it one in its proto")


def access_to(method: MethodDescriptor) -> Access:
    """Reads who may call the method.

    Raises:
        MethodWithoutRight: If nothing says it.
    """
    foreign = _FOREIGN.get(method.containing_service.full_name)
    if foreign is not None:
        return foreign
    needs = method.GetOptions().Extensions[access_pb2.needs]
    if needs == access_pb2.RIGHT_UNSPECIFIED:
        raise MethodWithoutRight(method.full_name)
    return Access(right=Right(needs))
