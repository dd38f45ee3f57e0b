"""The calls that end processes, and forget them."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.exhaustion import exhaustion_told
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.service import convert, convert_process
from guyline.agentd.process.spec import DEFAULT_GRACE
from guyline.daemon.logging import bind_to_call
from guyline.errors import InvalidInput, Violation
from guyline.rpc.caller import Context, caller_of


class EndCalls:
    """The calls that end processes, and forget them."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def cancel(
        self, request: pb.ProcessServiceCancelRequest, context: Context
    ) -> pb.ProcessServiceCancelResponse:
        caller = caller_of(context)
        target = request.WhichOneof("target")
        process = self._processes.get(request.process_id, caller) if target == "process_id" else None
        grace, wait = convert.to_grace_and_wait(request)
        grace = DEFAULT_GRACE if grace is None else grace
        canceling = self._processes.canceling
        if process:
            await canceling.end(process, grace=grace)
        elif target == "key":
            process = await canceling.end_start(convert.to_key(request.key), caller.chat_id, grace=grace)
        else:
            raise InvalidInput(Violation("process_id", "is missing; name a process here, or give the key of a start"))
        if process is None:
            return pb.ProcessServiceCancelResponse(fenced=True)
        bind_to_call(process_id=process.process_id)
        if wait is not None:
            with exhaustion_told("finding out who is left", halfway=True):
                await self._processes.signals.wait_until_gone(process, to_all=True, at_most=wait)
        return pb.ProcessServiceCancelResponse(process=convert_process.to_process(process))

    async def remove(
        self, request: pb.ProcessServiceRemoveRequest, context: Context
    ) -> pb.ProcessServiceRemoveResponse:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        self._processes.remove(process)
        return pb.ProcessServiceRemoveResponse()
