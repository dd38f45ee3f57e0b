"""The call that waits."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.processes import Processes
from guyline.errors import MethodUnknown
from guyline.rpc.caller import Context


class WaitCalls:
    """The call that waits."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def wait(self, request: pb.ProcessServiceWaitRequest, context: Context) -> pb.ProcessServiceWaitResponse:
        del request, context
        raise MethodUnknown("Wait")
