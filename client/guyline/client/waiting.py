"""Waits that last longer than one call: they are asked for again until something holds or the time is over."""

import asyncio
import os
from collections.abc import Iterator

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client.argument import invalid, to_timeout
from guyline.client.conditions import Condition, Exited, FileExists, Match, Met, NotMet, PortOpen, Printed
from guyline.client.connection import ANSWER_WITHIN, Connection
from guyline.client.enums import OutputWait, WaitOver
from guyline.client.requests import written_down
from guyline.client.view import Omission, View
from guyline.client.wire import to_duration, to_process_info

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
    for seconds, is_last in _calls(timeout):
        request.timeout.CopyFrom(to_duration(seconds))
        response = await connection.ask(
            lambda line: line.processes.Wait, request, repeatable=True, answer_within=seconds + ANSWER_WITHIN
        )
        if (met := _to_met(response, conditions)) is not None:
            return met
        over = WaitOver(response.over)
        if is_last or over is WaitOver.OUTPUT_ENDED:
            raise NotMet(to_process_info(response.process), over)
        for condition, cursor in zip(request.conditions, response.searched, strict=False):  # an older agent tells none
            if cursor:
                condition.pattern.cursor = cursor
    raise AssertionError("the last call returns or raises")


async def view(connection: Connection, request: pb.GetOutputRequest, *, wait: float | None) -> View:
    """Returns output as shown, once what the request waits for has happened or the time is over. Cancelling is safe."""
    wait = to_timeout("wait", wait)
    seen = None
    for seconds, _ in _calls(wait or 0.0):
        if wait:
            request.wait.CopyFrom(to_duration(seconds))
        response = await connection.ask(
            lambda line: line.processes.GetOutput, request, repeatable=True, answer_within=seconds + ANSWER_WITHIN
        )
        seen = _to_view(response)
        if seen.process.exit is not None:
            break
        if OutputWait(request.wait_for) is OutputWait.OUTPUT and seen.to_offset > seen.from_offset:
            break
    assert seen is not None, "there is at least one call"
    return seen


def _calls(timeout: float | None) -> Iterator[tuple[float, bool]]:
    """How long each call is to wait until the time is over, and whether it is the last one. None: for ever."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while True:
        left = LONGEST_CALL if deadline is None else max(0.0, deadline - loop.time())
        is_last = deadline is not None and left <= LONGEST_CALL
        yield min(left, LONGEST_CALL), is_last
        if is_last:
            return


def _to_condition(condition: Condition) -> pb.WaitCondition:
    """What to wait for."""
    with written_down("conditions"):
        match condition:
            case Exited():
                return pb.WaitCondition(exit=pb.ExitCondition())
            case Printed(pattern, from_offset, cursor):
                return pb.WaitCondition(
                    pattern=pb.PatternCondition(pattern=pattern, from_offset=from_offset, cursor=bytes(cursor))
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
