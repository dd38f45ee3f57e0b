"""The calls that show output."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.processes import Processes
from guyline.errors import MethodUnknown
from guyline.rpc.caller import Context


class ViewCalls:
    """The calls that show output."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def get_output(self, request: pb.GetOutputRequest, context: Context) -> pb.GetOutputResponse:
        del request, context
        raise MethodUnknown("GetOutput")
