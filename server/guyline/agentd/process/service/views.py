"""The calls that show output."""

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.process import Process
from guyline.agentd.process.processes import Processes
from guyline.agentd.process.service import convert, convert_process
from guyline.agentd.process.service.problems import Problems
from guyline.agentd.process.streams.viewing import Seen, Views, Wanted
from guyline.agentd.view.redaction import Secrets
from guyline.agentd.view.rendering import Renderer
from guyline.agentd.view.view import DEFAULT_BYTES, DEFAULT_LINE_BYTES, Shape
from guyline.daemon.logging import bind_to_call
from guyline.rpc.caller import Context, caller_of
from guyline.rpc.cursor import Cursor
from guyline.rpc.moments import to_seconds

MAX_WAIT = 300.0  # seconds
_BYTES = range(1024, 1024 * 1024 + 1)
_LINE_BYTES = range(64, 65_536 + 1)


class ViewCalls:
    """The calls that show output."""

    def __init__(self, processes: Processes, views: Views) -> None:
        self._processes = processes
        self._views = views

    async def get_output(self, request: pb.GetOutputRequest, context: Context) -> pb.GetOutputResponse:
        process = self._processes.get(request.process_id, caller_of(context))
        bind_to_call(process_id=process.process_id)
        start = _to_start(request, process)
        wanted = _to_wanted(request, start, await self._processes.secrets_of(process))
        return _to_response(process, await self._views.see(process, wanted, convert_process.to_process))


def _to_start(request: pb.GetOutputRequest, process: Process) -> int:
    """Where the view begins. Raises InvalidInput, which says everything that is wrong with the request."""
    problems = Problems()
    start = convert.to_start(problems, process, request)
    problems.check_enum("style", request.style, pb.OutputStyle.values())
    problems.check_enum("wait_for", request.wait_for, pb.OutputWait.values())
    problems.seconds(request, "wait", least=0, most=MAX_WAIT)
    for field, bounds in (("max_bytes", _BYTES), ("max_line_bytes", _LINE_BYTES)):
        if (value := getattr(request, field)) and value not in bounds:
            problems.add(field, f"{value} is not between {bounds[0]} and {bounds[-1]}")
    problems.raise_if_any()
    return start


def _to_wanted(request: pb.GetOutputRequest, start: int, secrets: Secrets) -> Wanted:
    return Wanted(
        start=start,
        shape=Shape(request.max_bytes or DEFAULT_BYTES, request.max_line_bytes or DEFAULT_LINE_BYTES),
        renderer=Renderer(plain=request.style != pb.OUTPUT_STYLE_RAW, secrets=secrets),
        wait=to_seconds(request.wait),
        for_output=request.wait_for == pb.OUTPUT_WAIT_OUTPUT,
    )


def _to_response(process: Process, seen: Seen[process_pb2.Process]) -> pb.GetOutputResponse:
    view = seen.view
    message = pb.OutputView(
        text=view.text,
        from_offset=view.start,
        to_offset=view.end,
        cut_lines=view.cut_lines,
        cut_bytes=view.cut_bytes,
        redactions=view.redactions,
    )
    if view.omission:
        message.omission.from_offset = view.omission.start
        message.omission.to_offset = view.omission.end
        message.omission.lost_bytes = seen.lost_bytes
    return pb.GetOutputResponse(
        process=seen.process, view=message, cursor=Cursor(process.id_bytes, view.end).to_bytes()
    )
