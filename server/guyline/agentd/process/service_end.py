"""The calls that end processes, and forget them."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.processes import Processes
from guyline.errors import MethodUnknown
from guyline.rpc.caller import Context


class EndCalls:
    """The calls that end processes, and forget them."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def cancel(
        self, request: pb.ProcessServiceCancelRequest, context: Context
    ) -> pb.ProcessServiceCancelResponse:
        del request, context
        raise MethodUnknown("Cancel")

    async def remove(
        self, request: pb.ProcessServiceRemoveRequest, context: Context
    ) -> pb.ProcessServiceRemoveResponse:
        del request, context
        raise MethodUnknown("Remove")
