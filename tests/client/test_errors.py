"""Failures of calls as exceptions."""

import copy
import math
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import guyline.client
from guyline.client import (
    AgentUnreachable,
    AsyncAgent,
    AsyncProcess,
    CommandFailed,
    CommandNotRunnable,
    Completed,
    EndedBy,
    Exit,
    GuylineError,
    Hop,
    InvalidInput,
    NotFound,
    NotMet,
    Outcome,
    Printed,
    Privileges,
    StillRunning,
    Terminal,
    TimeLimit,
    Unsupported,
    Violation,
    WaitOver,
    WrongState,
)
from guyline.client.errors import FAMILIES, REASONS
from guyline.client.wire import to_process_info
from guyline.error.v1 import reason_pb2
from tests.client.scripted import ScriptedAgent, breaks, fails, process

_EXIT = Exit(
    code=3, signal=None, unknown=None, ended_by=EndedBy.ITSELF, ended_at=None, user_cpu=0.0, system_cpu=0.0,
    peak_memory_bytes=0, core_dumped=False, descendants_left=frozenset(), time_limit=TimeLimit.UNSPECIFIED,
)  # fmt: skip
_COMPLETED = Completed("id", _EXIT, b"oops", None, None, 0)

ERRORS: list[type[GuylineError]] = [
    kind
    for name in guyline.client.__all__
    if isinstance(kind := getattr(guyline.client, name), type) and issubclass(kind, GuylineError)
]


def _example(kind: type[GuylineError]) -> GuylineError:
    if kind is CommandFailed:
        return CommandFailed("make", _COMPLETED)
    if kind is StillRunning:
        return StillRunning("id", b"so far", 3)
    if kind is NotMet:
        return NotMet(to_process_info(process()), WaitOver.OUTPUT_ENDED)
    return kind(
        "text", facts={"a": "b"}, outcome=Outcome.MAY_HAVE_RUN, violations=(Violation("f", "d"),), retry_after=1.0
    )


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_can_be_passed_between_processes(
    kind: type[GuylineError], copied: Callable[[GuylineError], GuylineError]
) -> None:
    """A pool hangs for ever on a result that it cannot unpack."""
    error = _example(kind)

    again = copied(error)

    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


async def test_a_failure_tells_programs_all_that_the_agent_said(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Reason, facts, outcome and hop are what programs decide by; the text is for people."""
    scripted.plays(fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND"))

    with pytest.raises(NotFound) as caught:
        await client.attach("some-id")

    error = caught.value
    assert (str(error), error.reason) == ("it failed: PROCESS_NOT_FOUND", "PROCESS_NOT_FOUND")
    assert (error.facts, error.outcome, error.hop) == ({"fact": "value"}, Outcome.NOT_STARTED, Hop.AGENT)


async def test_grpc_is_not_to_be_seen(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """Neither as the exception nor as its visible cause."""
    scripted.plays(fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND"))

    with pytest.raises(GuylineError) as caught:
        await client.attach("some-id")

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_reason_may_have_a_class_of_its_own(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """A command that cannot be executed is what callers of `run` catch most."""
    scripted.plays(fails(grpc.StatusCode.FAILED_PRECONDITION, "COMMAND_NOT_RUNNABLE"))

    with pytest.raises(CommandNotRunnable) as caught:
        await client.open(["nonsense"])

    assert isinstance(caught.value, WrongState)


async def test_a_reason_from_a_newer_agent_keeps_its_family(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The code says how to react even where the reason is not known."""
    scripted.plays(fails(grpc.StatusCode.INVALID_ARGUMENT, "FROM_THE_FUTURE"))

    with pytest.raises(InvalidInput) as caught:
        await client.list()

    assert caught.value.reason == "FROM_THE_FUTURE"


async def test_a_call_that_nobody_knows_is_said_to_be_that(scripted: ScriptedAgent, client: AsyncAgent) -> None:
    """The address may be another program's."""
    del scripted
    async with AsyncAgent(client._connection.address.target) as agent:
        method = agent._connection.ask(
            lambda line: line.channel.unary_unary("/no.Such/Method", lambda text: text, lambda data: data),
            b"",
            repeatable=False,
        )

        with pytest.raises(Unsupported):
            await method


async def test_what_the_link_lost_may_have_happened(scripted: ScriptedAgent) -> None:
    """Without a word from the agent, nobody can say that nothing happened."""
    async with AsyncAgent(scripted.address, patience=0) as agent:
        scripted.plays(breaks())

        with pytest.raises(AgentUnreachable) as caught:
            await agent.start(["true"])

    assert (caught.value.outcome, caught.value.hop) == (Outcome.MAY_HAVE_RUN, Hop.LINK)


async def test_the_value_of_a_variable_is_in_no_error(client: AsyncAgent) -> None:
    """Errors end up in logs, and variables hold secrets."""
    with pytest.raises(InvalidInput) as caught:
        await client.start(["true"], env={"TOKEN": "geheim\udcff"})

    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("command", "options", "field"),
    [
        (["echo", "fine", "\udcff"], {}, "argv[2]"),
        (["ls", Path("a")], {}, "argv[1]"),
        ("\udcff", {}, "command"),
        ("true", {"directory": "\udcff"}, "directory"),
        ("true", {"env": {"FINE": "fine", "TOKEN": "\udcff"}}, "env['TOKEN']"),
        ("true", {"labels": {"job": 7}}, "labels['job']"),
        ("true", {"redact": ["\udcff"]}, "redact[0]"),
        ("true", {"terminal": Terminal(term="\udcff")}, "terminal.term"),
        ("true", {"privileges": Privileges(group="\udcff")}, "privileges.group"),
        ("true", {"kept_bytes": -1}, "start"),
    ],
    ids=ascii,
)
async def test_what_is_no_text_is_named(client: AsyncAgent, command: Any, options: Any, field: str) -> None:
    """One of five hundred file names is not to be searched for."""
    with pytest.raises(InvalidInput) as caught:
        await client.start(command, **options)

    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    "call",
    [
        lambda agent, _: agent.attach("\udc80"),
        lambda agent, _: agent.remove("\udc80"),
        lambda agent, _: agent.cancel("\udc80"),
        lambda agent, _: agent.upgrade(interpreter="\udc80"),
        lambda agent, _: anext(agent.watch(labels={"a": "\udc80"})),
        lambda agent, _: agent.start("true", timeout=math.inf),
        lambda agent, _: agent.start("true", timeout="5"),
        lambda agent, _: agent.run("true", detach_after=math.nan),
        lambda _, process: process.view(max_bytes=-1),
        lambda _, process: process.resize(-1, 3),
        lambda _, process: process.signal(15, grace=math.inf),
        lambda _, process: process.signal(0),
        lambda _, process: process.cancel(wait=math.inf),
        lambda _, process: process.write(["text"]),
        lambda _, process: process.view(cursor=10**15),
        lambda _, process: process.wait_for(Printed("\udc80")),
        lambda _, process: process.wait_for(Printed("x", cursor=10**15)),  # type: ignore[arg-type] # mypy knows as well
        lambda _, process: anext(process.output(from_offset=-1)),
        lambda _, process: anext(process.output(since="yesterday")),
    ],
)
async def test_what_cannot_be_written_down_is_said_as_anything_wrong_is(
    scripted: ScriptedAgent, client: AsyncAgent, handle: AsyncProcess, call: Callable[[Any, Any], Awaitable[object]]
) -> None:
    """Programs catch one kind of exception. Signal 0, which only looks, would send SIGTERM."""
    with pytest.raises(InvalidInput) as caught:
        await call(client, handle)

    assert caught.value.violations
    assert not scripted.calls


@pytest.mark.parametrize(
    "wrong", [{"chat_id": ""}, {"chat_id": "é"}, {"chat_id": "a\nb"}, {"keepalive": 0}, {"on_absence": 5}]
)
def test_an_agent_is_not_made_of_what_no_call_could_carry_or_tell(wrong: dict[str, Any]) -> None:
    """Calls would fail, and with somebody else's exception. An empty chat is not none: that sees everything."""
    with pytest.raises(InvalidInput) as caught:
        AsyncAgent("unix:/nowhere", **wrong)

    assert [violation.field for violation in caught.value.violations] == list(wrong)


def test_each_reason_with_a_class_is_one_of_the_wire() -> None:
    """A slip in a name would make the class one that nobody ever meets."""
    assert {f"REASON_{reason}" for reason in REASONS} <= set(reason_pb2.Reason.keys())


def test_each_code_that_agents_use_has_a_family() -> None:
    """A family that is missing here would reach users as the bare base class."""
    assert set(FAMILIES) <= {code.name for code in grpc.StatusCode}
    assert all(issubclass(kind, GuylineError) for kind in (*FAMILIES.values(), *REASONS.values()))
