"""The other calls: what is sent, what is made of the answer, and what is tried again."""

import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import grpc
import pytest

import guyline.client
from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.client import (
    AsyncAgent,
    AsyncProcess,
    Ended,
    Exited,
    InvalidInput,
    Key,
    NoTerminal,
    ProcessRunning,
    ProcessState,
    Put,
    StartCanceled,
    TerminalSize,
    TimeLimit,
    TooManyCalls,
    TooManyProcesses,
)
from guyline.client.lines import LineSplitter
from guyline.stream.v1.stream_pb2 import StreamControl
from tests.client.scripted import PROCESS_ID, ScriptedAgent, as_run, began, breaks, ended, fails, gives, process

_TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED
OTHER_ID = "00000000-0000-4000-8000-000000000002"


async def test_a_list_has_all_pages(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """§17 no. 21: none is left out; what has ended between two pages stands there once, as it is now."""
    first, late = process(sequence=1), process_pb2.Process(process_id=OTHER_ID)
    gone = process(sequence=1, exit=process_pb2.Exit(code=0))
    page = pb.ProcessServiceListResponse
    scripted.plays(
        gives(page(processes=[first], ended_total=1, next_page_token=b"2")),
        gives(page(processes=[late, gone], ended_total=2)),
    )

    listing = await client.list(
        labels={"job": None, "empty": ""}, states=[ProcessState.RUNNING], usage=True, max_ended=None
    )

    assert [each.process_id for each in listing.processes] == [OTHER_ID, PROCESS_ID]
    assert listing.processes[1].exit is not None
    assert listing.ended_total == 2
    one, two = scripted.calls
    assert (dict(one.filter.labels), list(one.filter.label_names)) == ({"empty": ""}, ["job"])
    assert (list(one.filter.states), one.usage) == ([1], True)
    assert (one.page_token, two.page_token, two.filter) == (b"", b"2", one.filter)


async def test_a_list_says_all_that_the_agent_does(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Labels, input, terminal, limits, use."""
    full = process(
        abridged=True,
        labels={"job": "7"},
        input=process_pb2.Input(mode=process_pb2.INPUT_MODE_TERMINAL, next_offset=9, passed_bytes=5, is_open=True),
        terminal=process_pb2.TerminalSize(columns=132, rows=40),
        struck=process_pb2.TIME_LIMIT_IDLE_TIMEOUT,
        user="nobody",
    )
    full.time_limits.idle_timeout.seconds = 7
    full.usage.cpu.seconds, full.usage.memory_bytes, full.usage.processes = 3, 4096, 2
    scripted.plays(gives(pb.ProcessServiceListResponse(processes=[full, process_pb2.Process(process_id=OTHER_ID)])))

    seen, bare = (await client.list()).processes

    assert (seen.abridged, dict(seen.labels), seen.user) == (True, {"job": "7"}, "nobody")
    assert (seen.input.next_offset, seen.input.passed_bytes, seen.input.is_open) == (9, 5, True)
    assert (seen.terminal, seen.struck) == (TerminalSize(132, 40), TimeLimit.IDLE_TIMEOUT)
    assert seen.time_limits is not None
    assert (seen.time_limits.timeout, seen.time_limits.idle_timeout) == (None, 7)
    assert seen.usage is not None
    assert (seen.usage.cpu, seen.usage.memory_bytes, seen.usage.processes) == (3, 4096, 2)
    assert (bare.terminal, bare.time_limits, bare.usage, bare.input.is_open) == (None, None, None, False)


async def test_an_end_is_told_as_such(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """§17 no. 22: whoever waits for ends need not compare states. It counts as a change as well."""
    event = pb.ProcessEvent(ended=process(exit=process_pb2.Exit(code=3)))
    scripted.plays(gives(pb.ProcessServiceWatchResponse(events=[event], control=StreamControl(cursor=b"1"))))

    async with aclosing(client.watch(labels={"job": "7", "name": None})) as events:
        seen = await anext(events)

    assert isinstance(seen, Ended)
    assert isinstance(seen, Put)
    assert seen.process.exit is not None
    assert (dict(scripted.calls[0].labels), list(scripted.calls[0].label_names)) == ({"job": "7"}, ["name"])


async def test_what_has_ended_stays_so_whatever_was_answered_before(
    scripted: ScriptedAgent, handle: AsyncProcess
) -> None:
    """The answer to a signal may be made before the end and come after the message that tells it."""
    scripted.plays(gives(ended(3)), gives(pb.SignalResponse(process=process())))

    await handle.wait()
    await handle.signal()

    assert handle.info.exit is not None
    assert handle.info.exit.code == 3


async def test_a_process_or_a_key_can_be_cancelled(
    scripted: ScriptedAgent, client: AsyncAgent, handle: AsyncProcess
) -> None:
    """A lost answer does no harm: canceling twice is canceling once."""
    scripted.plays(
        breaks(),
        gives(pb.ProcessServiceCancelResponse(process=process(exit=process_pb2.Exit(signal=15)))),
        gives(pb.ProcessServiceCancelResponse(fenced=True)),
    )
    key = Key.new()

    canceled = await handle.cancel(grace=1, wait=2)
    fenced = await client.cancel(key)

    assert canceled.process is not None
    assert handle.info.exit is not None
    assert (fenced.process, fenced.fenced) == (None, True)
    by_id, again, by_key = scripted.calls
    assert (by_id.process_id, by_id.grace.seconds, by_id.wait.seconds) == (PROCESS_ID, 1, 2)
    assert (again.process_id, again.grace.seconds) == (PROCESS_ID, 1)
    assert (by_key.key.value, by_key.HasField("grace"), by_key.HasField("wait")) == (key.value, False, False)


async def test_a_start_that_was_cancelled_first_says_so(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """It never runs."""
    scripted.plays(fails(grpc.StatusCode.FAILED_PRECONDITION, "START_CANCELED"))

    with pytest.raises(StartCanceled):
        await client.start(["make"])


async def test_only_an_ended_process_is_removed(
    scripted: ScriptedAgent, client: AsyncAgent, handle: AsyncProcess
) -> None:
    """By its handle or its id."""
    scripted.plays(
        fails(grpc.StatusCode.FAILED_PRECONDITION, "PROCESS_RUNNING"), gives(pb.ProcessServiceRemoveResponse())
    )

    with pytest.raises(ProcessRunning):
        await handle.remove()
    await client.remove(PROCESS_ID)

    assert [call.process_id for call in scripted.calls] == [PROCESS_ID, PROCESS_ID]


async def test_a_terminal_gets_a_new_size(scripted: ScriptedAgent, handle: AsyncProcess) -> None:
    """If there is one."""
    scripted.plays(gives(pb.ResizeResponse()), fails(grpc.StatusCode.FAILED_PRECONDITION, "NO_TERMINAL"))

    await handle.resize(132, 40)
    with pytest.raises(NoTerminal):
        await handle.resize(132, 40)

    assert (scripted.calls[0].size.columns, scripted.calls[0].size.rows) == (132, 40)


@pytest.mark.parametrize("reason", ["TOO_MANY_CALLS", "SYSTEM_EXHAUSTED"])
async def test_what_was_too_much_is_tried_again(scripted: ScriptedAgent, client: AsyncAgent, reason: str) -> None:
    """The agent says that nothing has happened, and it passes. Streams are opened again as well."""
    refused = fails(_TOO_MUCH, reason, retry_after=0.001)
    scripted.plays(refused, gives(pb.StartResponse(process=process())), refused, gives(began(), as_run(ended())))

    await client.start(["make"])
    await client.run(["make"])

    assert len(scripted.calls) == 4
    assert scripted.calls[0] == scripted.calls[1]


async def test_what_may_have_happened_is_not(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A signal is no start: it has no key."""
    scripted.plays(gives(pb.StartResponse(process=process())), fails(_TOO_MUCH, "TOO_MANY_CALLS", outcome=""))
    handle = await client.start(["make"])

    with pytest.raises(TooManyCalls):
        await handle.signal(2)


async def test_too_many_processes_is_the_callers_to_decide(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Nobody knows when there will be room: waiting for it in silence would look like a command that hangs."""
    scripted.plays(fails(_TOO_MUCH, "TOO_MANY_PROCESSES", retry_after=0.001))

    with pytest.raises(TooManyProcesses):
        await client.start(["make"])

    assert len(scripted.calls) == 1


async def test_patience_ends_with_an_agent_that_is_always_busy(scripted: ScriptedAgent) -> None:
    """Then what it said is raised."""
    scripted.plays(*[fails(_TOO_MUCH, "TOO_MANY_CALLS", retry_after=0.001)] * 1000)

    async with AsyncAgent(scripted.address, patience=0.2) as agent:
        with pytest.raises(TooManyCalls):
            await agent.list()


def test_all_that_is_promised_is_there() -> None:
    """Some names are only imported when somebody asks for them."""
    assert all(getattr(guyline.client, name) for name in guyline.client.__all__)
    with pytest.raises(AttributeError):
        guyline.client.no_such_name  # type: ignore[attr-defined]  # noqa: B018 - that is the point


_GIVEN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("run", {"timout": 0.5}),
    ("open", {"check": True}),
    ("start", {"input": b"x"}),
)


@pytest.mark.parametrize(("method", "given"), _GIVEN)
async def test_an_option_that_a_start_does_not_have_is_refused(
    scripted: ScriptedAgent, client: AsyncAgent, method: str, given: dict[str, Any]
) -> None:
    """A limit with a slip in its name would not hold, and nobody would be told."""
    with pytest.raises(TypeError) as refused:
        await getattr(client, method)(["make"], **given)

    assert str(refused.value) == f"AsyncAgent.{method}() got an unexpected keyword argument '{next(iter(given))}'"
    assert not scripted.calls


@pytest.mark.parametrize("method", ["output", "lines"])
async def test_a_range_that_output_does_not_have_is_refused(
    scripted: ScriptedAgent, handle: AsyncProcess, method: str
) -> None:
    """Everything would come, where a part was asked for."""
    with pytest.raises(TypeError) as refused:
        await anext(getattr(handle, method)(offset=2))

    assert str(refused.value) == f"AsyncProcess.{method}() got an unexpected keyword argument 'offset'"
    assert not scripted.calls


async def test_a_run_is_not_begun_with_what_it_cannot_go_through_with(
    scripted: ScriptedAgent, client: AsyncAgent
) -> None:
    """The command would run, and nobody would get what it did."""
    for argument, given in (("input", 5), ("input", [b"a", 1]), ("max_output_bytes", "5")):
        options: dict[str, Any] = {argument: given}
        with pytest.raises(InvalidInput, match=f"^{argument}: .* expected$"):
            await client.run(["cat"], **options)

    assert not scripted.calls


@pytest.mark.parametrize("argument", ["timeout", "idle_timeout", "grace", "detach_after"])
@pytest.mark.parametrize("given", [math.nan, math.inf, 1e300, 10**400, "5"], ids=lambda given: str(given)[:5])
async def test_a_limit_that_is_no_length_of_time_is_named(
    scripted: ScriptedAgent, client: AsyncAgent, argument: str, given: Any
) -> None:
    """Of four that a start may have, whoever reads the error knows which it was."""
    options: dict[str, Any] = {argument: given}
    with pytest.raises(InvalidInput) as refused:
        await client.open(["make"], **options)

    assert refused.value.violations[0].field == argument
    assert not scripted.calls


class _Number:
    """A number as numerical libraries have them: neither an int nor a float."""

    def __index__(self) -> int:
        return 4

    def __float__(self) -> float:
        return 4.0


async def test_a_number_may_be_of_any_type(scripted: ScriptedAgent, client: AsyncAgent, handle: AsyncProcess) -> None:
    """Times and sizes are computed, and by whom is nobody's business."""
    four: Any = _Number()
    quarter: Any = Fraction(1, 4)
    scripted.plays(
        gives(pb.StartResponse(process=process())),
        gives(pb.ProcessServiceWaitResponse(process=process(), met=0)),
        gives(pb.GetOutputResponse(process=process(exit=process_pb2.Exit(code=0)))),
        gives(pb.ProcessServiceCancelResponse(process=process())),
    )

    await client.start(["make"], timeout=four, idle_timeout=quarter, kept_bytes=four)
    await handle.wait_for(Exited(), timeout=quarter)
    await handle.view(wait=quarter)
    await handle.cancel(grace=four, wait=cast("Any", Decimal(4)))
    AsyncAgent("tcp://localhost:1", patience=quarter, connect_timeout=four, keepalive=four)
    LineSplitter(max_line_bytes=four)

    start, _, view, cancel = scripted.calls
    assert (start.time_limits.timeout.seconds, start.time_limits.idle_timeout.nanos) == (4, 250_000_000)
    assert (start.kept_bytes, cancel.grace.seconds, cancel.wait.seconds) == (4, 4, 4)
    assert 0 < view.wait.nanos <= 250_000_000


async def test_what_a_handle_cannot_take_is_refused(
    scripted: ScriptedAgent, client: AsyncAgent, handle: AsyncProcess
) -> None:
    """NaN would wait for ever or not at all; the rest would be an error of a line inside."""
    calls: tuple[tuple[str, Callable[..., Awaitable[object]], Any], ...] = (
        ("timeout", handle.wait, math.nan),
        ("timeout", handle.wait, "5"),
        ("timeout", lambda given: handle.wait_for(Exited(), timeout=given), math.nan),
        ("wait", lambda given: handle.view(wait=given), math.nan),
        ("conditions", handle.wait_for, 5),
        ("conditions", handle.wait_for, Exited),
        ("data", handle.write, None),
        ("data", handle.write, "text"),
        ("max_line_bytes", lambda given: anext(handle.lines(max_line_bytes=given)), "64"),
        ("labels", lambda given: anext(client.watch(labels=given)), 5),
        ("timeout", handle.wait, 10**400),
        ("timeout", handle.wait, Decimal("sNaN")),
        ("signal", handle.signal, None),
        ("grace", lambda given: handle.signal(grace=given), math.nan),
        ("wait", lambda given: handle.signal(wait=given), "5"),
        ("wait", lambda given: handle.cancel(wait=given), math.inf),
    )
    for argument, call, given in calls:
        with pytest.raises(InvalidInput, match=f"^{argument}: "):
            await call(given)

    assert not scripted.calls
