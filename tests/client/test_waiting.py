"""Waits for something to happen, and views of what was printed."""

from collections.abc import Awaitable, Callable
from signal import SIGKILL
from typing import Any

import grpc
import pytest

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import (
    AsyncAgent,
    AsyncProcess,
    Exited,
    FileExists,
    InvalidInput,
    NotMet,
    Omission,
    OutputStyle,
    OutputWait,
    PortOpen,
    Printed,
    WaitOver,
)
from tests.client.scripted import PROCESS_ID, ScriptedAgent, breaks, fails, gives, process
from tests.support.clock import MS


async def test_the_condition_that_holds_is_told(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """With where the output matched, to go on from there."""
    match = pb.PatternMatch(offset=10, data=b"ready", cursor=b"15")
    scripted.plays(gives(pb.ProcessServiceWaitResponse(process=process(), met=1, match=match)))
    conditions = (Exited(), Printed("ready", from_offset=5), PortOpen(8080), FileExists("out/pid"))

    met = await handle.wait_for(*conditions, timeout=7)

    assert (met.condition, met.index) == (conditions[1], 1)
    assert met.match is not None
    assert (met.match.offset, met.match.data, met.match.cursor) == (10, b"ready", b"15")
    [sent] = scripted.calls
    assert [each.WhichOneof("condition") for each in sent.conditions] == ["exit", "pattern", "port", "file"]
    assert (sent.conditions[1].pattern.from_offset, sent.conditions[2].port.port) == (5, 8080)
    assert 0 < sent.timeout.ToMilliseconds() <= 7000


async def test_a_wait_goes_on_where_the_call_before_had_got_to(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """Nothing is searched twice, however long it takes."""
    over = gives(
        pb.ProcessServiceWaitResponse(process=process(), over=pb.WAIT_OVER_TIMEOUT, searched=[b"", b"cursor", b""])
    )
    scripted.plays(over, gives(pb.ProcessServiceWaitResponse(process=process(), met=0)))

    await handle.wait_for(Exited(), Printed("x", from_offset=7), PortOpen(80), timeout=3600)

    first, second = scripted.calls
    assert (first.conditions[1].pattern.cursor, first.conditions[1].pattern.from_offset) == (b"", 7)
    assert second.conditions[1].pattern.cursor == b"cursor"
    assert [each.WhichOneof("condition") for each in second.conditions] == ["exit", "pattern", "port"]


async def test_a_wait_outlasts_calls_and_breaks(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """Calls wait for five minutes at most, and a worker that is replaced cuts them short: nobody notices."""
    over = gives(pb.ProcessServiceWaitResponse(process=process(), over=pb.WAIT_OVER_TIMEOUT))
    scripted.plays(over, breaks(), over, gives(pb.ProcessServiceWaitResponse(process=process(), met=0)))

    assert (await handle.wait_for(Exited(), timeout=3600)).index == 0

    assert [call.timeout.seconds for call in scripted.calls] == [300] * 4


_WAITS: dict[str, tuple[Callable[[AsyncProcess], Awaitable[object]], Any]] = {
    "timeout of Wait": (
        lambda handle: handle.wait_for(Exited(), timeout=200),
        pb.ProcessServiceWaitResponse(process=process(), met=0),
    ),
    "wait of GetOutput": (lambda handle: handle.view(wait=200), pb.GetOutputResponse(process=process())),
    "wait of Cancel": (lambda handle: handle.cancel(wait=200), pb.ProcessServiceCancelResponse(process=process())),
    "wait of Signal": (lambda handle: handle.signal(SIGKILL, wait=200), pb.SignalResponse(process=process())),
}


@pytest.mark.parametrize("wait", _WAITS)
async def test_a_break_does_not_begin_the_time_anew(scripted: ScriptedAgent, handle: AsyncProcess, wait: str) -> None:
    """A worker that dies again and again would make six seconds endless."""
    asks, answer = _WAITS[wait]
    scripted.plays(breaks(after=20 * MS), breaks(after=20 * MS), gives(answer))

    await asks(handle)

    field = wait.split(maxsplit=1)[0]
    first, second, third = (getattr(call, field).ToNanoseconds() for call in scripted.calls)
    assert 200e9 >= first > second > third > 0


async def test_time_that_the_agent_has_waited_is_no_absence(scripted: ScriptedAgent) -> None:
    """Two workers that die minutes apart are two short breaks, and not one that is longer than patience."""
    found = gives(pb.ProcessServiceWaitResponse(process=process(), met=0))
    async with AsyncAgent(scripted.address, patience=1000 * MS) as client:
        scripted.plays(gives(pb.StartResponse(process=process())), breaks(), breaks(after=1500 * MS), found)
        handle = await client.start(["serve"])

        assert (await handle.wait_for(Exited(), timeout=200)).index == 0


async def test_a_wait_in_vain_says_why(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """The time is over, or nothing will be printed any more."""
    for over in (pb.WAIT_OVER_TIMEOUT, pb.WAIT_OVER_OUTPUT_ENDED):
        scripted.plays(gives(pb.ProcessServiceWaitResponse(process=process(), over=over)))

    with pytest.raises(NotMet) as timeout:
        await handle.wait_for(Exited(), timeout=-1)
    with pytest.raises(NotMet) as ended:
        await handle.wait_for(Printed("ready"))

    assert (timeout.value.over, ended.value.over) == (WaitOver.TIMEOUT, WaitOver.OUTPUT_ENDED)
    assert timeout.value.process.process_id == PROCESS_ID
    assert scripted.calls[0].timeout.ToNanoseconds() == 0, "what is over already is no time"


async def test_a_wrong_condition_is_refused(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """By the agent, or here if it cannot even be sent."""
    scripted.plays(fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT"))

    with pytest.raises(InvalidInput):
        await handle.wait_for(Printed("("))
    with pytest.raises(InvalidInput, match="conditions"):
        await handle.wait_for(PortOpen(-1))


async def test_a_view_is_what_the_agent_shows(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """All it says, and the question as it was asked."""
    view = pb.OutputView(
        text="a\n[...]\nü".encode(),
        from_offset=3,
        to_offset=100,
        omission=pb.Omission(from_offset=5, to_offset=90, lost_bytes=7),
        cut_lines=1,
        cut_bytes=2,
        redactions=4,
    )
    scripted.plays(breaks(), gives(pb.GetOutputResponse(process=process(), view=view, cursor=b"100")))

    seen = await handle.view(cursor=b"3", style=OutputStyle.RAW, max_bytes=1024, max_line_bytes=64)

    assert (seen.text, seen.cursor, seen.from_offset, seen.to_offset) == ("a\n[...]\nü", b"100", 3, 100)
    assert seen.omission == Omission(from_offset=5, to_offset=90, lost_bytes=7)
    assert (seen.cut_lines, seen.cut_bytes, seen.redactions) == (1, 2, 4)
    asked = scripted.calls[-1]
    assert (asked.cursor, asked.style, asked.max_bytes, asked.max_line_bytes) == (b"3", pb.OUTPUT_STYLE_RAW, 1024, 64)
    assert not asked.HasField("wait")


async def test_a_view_may_wait_longer_than_a_call(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """For the end, or for anything new."""
    nothing = gives(pb.GetOutputResponse(process=process(), view=pb.OutputView(from_offset=3, to_offset=3)))
    new = gives(pb.GetOutputResponse(process=process(), view=pb.OutputView(from_offset=3, to_offset=4)))
    ended = gives(pb.GetOutputResponse(process=process(exit=process_pb2.Exit(code=0))))
    scripted.plays(nothing, new, new, ended)

    assert (await handle.view(wait=3600, wait_for=OutputWait.OUTPUT)).to_offset == 4
    assert (await handle.view(wait=3600)).process.exit is not None

    assert len(scripted.calls) == 4


async def test_a_view_whose_time_is_over_is_no_error(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """It shows what there is."""
    scripted.plays(gives(pb.GetOutputResponse(process=process(), view=pb.OutputView(text=b"so far"))))

    assert (await handle.view(wait=0.01)).text == "so far"
