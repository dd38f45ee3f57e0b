"""A service of which a test serves a few calls only."""

from collections.abc import AsyncIterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceServicer
from guyline.rpc.caller import Context


class PartOfProcesses(ProcessServiceServicer):
    """What a subclass does not have is not called."""

    async def GetOutput(self, _request: pb.GetOutputRequest, _context: Context) -> pb.GetOutputResponse:
        raise NotImplementedError

    async def Wait(self, _request: pb.ProcessServiceWaitRequest, _context: Context) -> pb.ProcessServiceWaitResponse:
        raise NotImplementedError

    async def WriteInput(self, _request: pb.WriteInputRequest, _context: Context) -> pb.WriteInputResponse:
        raise NotImplementedError

    async def WriteInputStream(
        self, _requests: AsyncIterator[pb.WriteInputStreamRequest], _context: Context
    ) -> pb.WriteInputStreamResponse:
        raise NotImplementedError

    async def CloseInput(self, _request: pb.CloseInputRequest, _context: Context) -> pb.CloseInputResponse:
        raise NotImplementedError

    async def Resize(self, _request: pb.ResizeRequest, _context: Context) -> pb.ResizeResponse:
        raise NotImplementedError

    async def Cancel(
        self, _request: pb.ProcessServiceCancelRequest, _context: Context
    ) -> pb.ProcessServiceCancelResponse:
        raise NotImplementedError

    async def Remove(
        self, _request: pb.ProcessServiceRemoveRequest, _context: Context
    ) -> pb.ProcessServiceRemoveResponse:
        raise NotImplementedError
