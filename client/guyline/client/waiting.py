"""Waits that last longer than one call: they are asked for again until something holds or the time is over."""

import os

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.argument import invalid, to_bytes, to_timeout
from guyline.client.conditions import Condition, Exited, FileExists, Match, Met, NotMet, PortOpen, Printed
from guyline.client.connection import Connection
from guyline.client.deadline import Deadline
from guyline.client.enums import OutputWait, WaitOver
from guyline.client.requests import written_down
from guyline.client.view import Omission, View
from guyline.client.wire import to_process_info

LONGEST_CALL = 300.0
"""Seconds for which an agent lets one call wait."""


async def wait_for(
    connection: Connection, process_id: str, conditions: tuple[Condition, ...], *, timeout: float | None
) -> Met:
    """Returns which of the conditions holds, as soon as one does. Cancelling is safe.

    Raises:
        NotMet: None does, and the time is over or the output has ended.
    """
    timeout = to_timeout("timeout", timeout)
    request = pb.ProcessServiceWaitRequest(process_id=process_id, conditions=map(_to_condition, conditions))
    deadline = Deadline(_not_past(timeout), request.timeout, longest=LONGEST_CALL)
    while True:
        response = await connection.ask(lambda line: line.processes.Wait, request, repeatable=True, deadline=deadline)
        if (met := _to_met(response, conditions)) is not None:
            return met
        over = WaitOver(response.over)
        if deadline.is_last or over is WaitOver.OUTPUT_ENDED:
            raise NotMet(to_process_info(response.process), over)
        for condition, cursor in zip(request.conditions, response.searched, strict=False):  # an older agent tells none
            if cursor:
                condition.pattern.cursor = cursor


async def view(connection: Connection, request: pb.GetOutputRequest, *, wait: float | None) -> View:
    """Returns output as shown, once what the request waits for has happened or the time is over. Cancelling is safe."""
    wait = to_timeout("wait", wait)
    deadline = Deadline(_not_past(wait), request.wait, longest=LONGEST_CALL) if wait else None
    while True:
        response = await connection.ask(
            lambda line: line.processes.GetOutput, request, repeatable=True, deadline=deadline
        )
        seen = _to_view(response)
        has_new = seen.to_offset > seen.from_offset
        if deadline is None or deadline.is_last or seen.process.exit is not None:
            return seen
        if has_new and OutputWait(request.wait_for) is OutputWait.OUTPUT:
            return seen


def _not_past(timeout: float | None) -> float | None:
    """Time that is over already is no time."""
    return None if timeout is None else max(0.0, timeout)


def _to_condition(condition: Condition) -> pb.WaitCondition:
    """What to wait for."""
    with written_down("conditions"):
        match condition:
            case Exited():
                return pb.WaitCondition(exit=pb.ExitCondition())
            case Printed(pattern, from_offset, cursor):
                since = to_bytes("cursor", cursor)
                return pb.WaitCondition(
                    pattern=pb.PatternCondition(pattern=pattern, from_offset=from_offset, cursor=since)
                )
            case PortOpen(port):
                return pb.WaitCondition(port=pb.PortCondition(port=port))
            case FileExists(path):
                return pb.WaitCondition(file=pb.FileCondition(path=os.fspath(path)))
    raise invalid("conditions", f"{condition!r} is none; give Exited(), Printed(...), PortOpen(...) or FileExists(...)")


def _to_view(response: pb.GetOutputResponse) -> View:
    """Output as shown."""
    view = response.view
    left_out = view.omission
    return View(
        process=to_process_info(response.process),
        data=view.text,
        from_offset=view.from_offset,
        to_offset=view.to_offset,
        omission=Omission(left_out.from_offset, left_out.to_offset, left_out.lost_bytes)
        if view.HasField("omission")
        else None,
        cut_lines=view.cut_lines,
        cut_bytes=view.cut_bytes,
        redactions=view.redactions,
        cursor=response.cursor,
    )


def _to_met(response: pb.ProcessServiceWaitResponse, conditions: tuple[Condition, ...]) -> Met | None:
    """Which of the conditions holds; None: none does."""
    if not response.HasField("met"):
        return None
    found = response.match
    return Met(
        condition=conditions[response.met],
        index=response.met,
        process=to_process_info(response.process),
        match=Match(found.offset, found.data, found.cursor) if response.HasField("match") else None,
    )
