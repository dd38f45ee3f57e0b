"""The call that waits."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.service.convert_process import to_process
from guyline.agentd.process.service.convert_wait import to_response, to_wait
from guyline.agentd.process.streams.secrets import hidden
from guyline.agentd.process.waiting.waits import Waits
from guyline.daemon.logging import bind_to_call
from guyline.rpc.caller import Context, caller_of


class WaitCalls:
    """The call that waits."""

    def __init__(self, processes: Processes, waits: Waits) -> None:
        self._processes = processes
        self._waits = waits

    async def wait(self, request: pb.ProcessServiceWaitRequest, context: Context) -> pb.ProcessServiceWaitResponse:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        wanted, timeout = to_wait(process, request)
        secrets = await self._processes.secrets_of(process)
        outcome = await self._waits.first(process, wanted, timeout=timeout)
        found = outcome.found
        shown = await hidden(process, found.offset, found.data, secrets) if found else b""
        response = to_response(process, outcome, shown)
        response.process.CopyFrom(to_process(process))
        return response
