"""Whatever is wrong with a request is said at once, by the path of the field, and leaves the agent as it was."""

import math
import uuid
from typing import Any

import grpc
import pytest

from guyline.agent.v1.process_pb2 import GroupLimits, IdempotencyKey, Privileges, ResourceLimit
from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    ProcessFilter,
    ProcessServiceCancelRequest,
    ProcessServiceListRequest,
    ProcessServiceWatchRequest,
    RunRequest,
    SignalRequest,
    StartRequest,
    WaitCondition,
)
from tests.agentd.process.process_parts import (
    assert_invalid,
    new_key,
    refusal,
    run,
    started,
    to_start,
)
from tests.agentd.process.waiting_parts import EXIT, file, pattern, port, to_wait
from tests.support.agent import RunningAgent

MIB = 1024 * 1024


def keyed(**fields: Any) -> StartRequest:
    """A start whose key is only what the fields say."""
    return StartRequest(command="true", key=IdempotencyKey(**fields))


NOW = new_key().created_at


def limits(*limits: tuple[int, int | None, int | None]) -> Privileges:
    """Limits of resources: which, soft and hard."""
    made = [ResourceLimit(resource=each, soft=soft, hard=hard) for each, soft, hard in limits]  # type: ignore[arg-type]  # some on purpose
    return Privileges(resource_limits=made)


PRIVILEGES: dict[str, tuple[Privileges, str]] = {
    "NUL in the user": (Privileges(user="a\0b"), "privileges.user"),
    "a group too long": (Privileges(group="x" * 257), "privileges.group"),
    "a umask too large": (Privileges(umask=0o1000), "privileges.umask"),
    "too nice": (Privileges(nice=20), "privileges.nice"),
    "not nice enough": (Privileges(nice=-21), "privileges.nice"),
    "an OOM score too high": (Privileges(oom_score=1001), "privileges.oom_score"),
    "an OOM score too low": (Privileges(oom_score=-1001), "privileges.oom_score"),
    "no resource": (limits((0, 1, 1)), "privileges.resource_limits[0].resource"),
    "an unknown resource": (limits((1, 1, 1), (99, 1, 1)), "privileges.resource_limits[1].resource"),
    "a resource twice": (limits((1, 1, 1), (1, 2, 2)), "privileges.resource_limits[1].resource"),
    "a soft limit beyond the hard one": (limits((1, 2, 1)), "privileges.resource_limits[0].soft"),
    "no soft limit but a hard one": (limits((1, None, 1)), "privileges.resource_limits[0].soft"),
    "a limit beyond all limits": (limits((1, 1 << 63, None)), "privileges.resource_limits[0].soft"),
    "too little memory": (
        Privileges(group_limits=GroupLimits(memory_bytes=MIB - 1)),
        "privileges.group_limits.memory_bytes",
    ),
    "too few CPUs": (Privileges(group_limits=GroupLimits(cpus=0.009)), "privileges.group_limits.cpus"),
    "less than no CPU": (Privileges(group_limits=GroupLimits(cpus=-1)), "privileges.group_limits.cpus"),
    "CPUs that are no number": (Privileges(group_limits=GroupLimits(cpus=math.nan)), "privileges.group_limits.cpus"),
    "too many pids": (Privileges(group_limits=GroupLimits(pids=(1 << 22) + 1)), "privileges.group_limits.pids"),
}

WRONG_STARTS: dict[str, tuple[StartRequest, str]] = {
    "nothing to run": (StartRequest(), "command"),
    "two things to run": (StartRequest(command="true", argv=["true"]), "command"),
    "NUL in the command": (StartRequest(command="a\0b"), "command"),
    "a command too long": (StartRequest(command="x" * 131_001), "command"),
    "a command too long in UTF-8": (StartRequest(command="ü" * 65_501), "command"),
    "an empty program": (StartRequest(argv=["", "x"]), "argv[0]"),
    "NUL in an argument": (StartRequest(argv=["echo", "fine", "a\0b"]), "argv[2]"),
    "an argument too long": (StartRequest(argv=["echo", "x" * 131_001]), "argv[1]"),
    "arguments too long together": (StartRequest(argv=["echo", *["x" * 100_000] * 11]), "env"),
    "NUL in the directory": (StartRequest(command="true", directory="/a\0b"), "directory"),
    "a directory too long": (StartRequest(command="true", directory="/" + "x" * 4096), "directory"),
    "a variable without a name": (StartRequest(command="true", env={"": "x"}), "env"),
    "= in a variable's name": (StartRequest(command="true", env={"A=B": "x"}), "env"),
    "NUL in a variable's name": (StartRequest(command="true", env={"A\0B": "x"}), "env"),
    "NUL in a variable's value": (StartRequest(command="true", env={"A": "x\0y"}), "env['A']"),
    "a value too long": (StartRequest(command="true", env={"A": "x" * 131_001}), "env['A']"),
    "a variable's name too long": (StartRequest(command="true", env={"A" * 131_000: ""}), f"env['{'A' * 40}']"),
    "an environment too long": (StartRequest(command="true", env={f"A{i}": "x" * 100_000 for i in range(11)}), "env"),
    "an unknown output mode": (StartRequest(command="true", output_mode=99), "output_mode"),  # type: ignore[arg-type]  # on purpose
    "an unknown when_full": (StartRequest(command="true", when_full=-1), "when_full"),  # type: ignore[arg-type]  # on purpose
    "too little kept": (StartRequest(command="true", kept_bytes=MIB - 1), "kept_bytes"),
    "a label without a name": (StartRequest(command="true", labels={"": "x"}), "labels"),
    "a label's name too long": (StartRequest(command="true", labels={"ü" * 32: "x"}), "labels"),
    "NUL in a label's name": (StartRequest(command="true", labels={"a\0": "x"}), "labels"),
    "a label too long": (StartRequest(command="true", labels={"a": "x" * 256}), "labels['a']"),
    "NUL in a label": (StartRequest(command="true", labels={"a": "\0"}), "labels['a']"),
    "too many labels": (StartRequest(command="true", labels={f"l{i}": "" for i in range(33)}), "labels"),
    "an empty key": (keyed(created_at=NOW), "key.value"),
    "a key too long": (keyed(value="k" * 201, created_at=NOW), "key.value"),
    "NUL in a key": (keyed(value="k\0", created_at=NOW), "key.value"),
    "a key without its time": (keyed(value="k"), "key.created_at"),
    "too many variables to hide": (StartRequest(command="true", redact=["PATH"] * 65), "redact"),
    "a variable to hide that is not set": (StartRequest(command="true", redact=["PATH", "NOT_SET"]), "redact[1]"),
    "a value too short to hide": (StartRequest(command="true", env={"A": "abc"}, redact=["A"]), "redact[0]"),
    **{
        f"privileges, {case}": (to_start("true", privileges=wrong), field)
        for case, (wrong, field) in PRIVILEGES.items()
    },
}


@pytest.mark.parametrize("case", WRONG_STARTS)
async def test_each_wrong_field_of_a_start_is_named(shared_agent: RunningAgent, case: str) -> None:
    """Start names it from the request's root, and Run, which holds a start, from its own."""
    request, field = WRONG_STARTS[case]

    by_start = await refusal(shared_agent.processes.Start(request))
    by_run = await refusal(shared_agent.processes.Run(RunRequest(start=request)))

    assert_invalid(by_start, field)
    assert_invalid(by_run, f"start.{field}")


async def test_the_longest_allowed_start_runs(shared_agent: RunningAgent) -> None:
    """The limits are the kernel's own: what is allowed here must not fail there."""
    command = "echo fine #"
    over = await run(
        shared_agent,
        command + "x" * (131_000 - len(command)),
        env={f"V{i}": "v" * 100_000 for i in range(8)} | {"ARG": "x" * (131_000 - 4)},
        key=IdempotencyKey(value=(str(uuid.uuid4()) * 6)[:200], created_at=NOW),
    )

    assert over.data == b"fine\n"


async def test_everything_that_is_wrong_is_said_at_once(shared_agent: RunningAgent) -> None:
    """A caller should not have to come back once for each mistake."""
    wrong = StartRequest(
        argv=["", "a\0"],
        directory="\0",
        env={"": ""},
        kept_bytes=1,
        output_mode=9,  # type: ignore[arg-type]  # on purpose
        key=IdempotencyKey(),
        privileges=Privileges(user="\0", nice=99),
    )

    refused = await refusal(shared_agent.processes.Start(wrong))

    expected = ["argv[0]", "argv[1]", "env", "directory", "output_mode", "kept_bytes", "key.value", "key.created_at"]
    expected += ["privileges.user", "privileges.nice"]
    assert_invalid(refused, *expected)


async def test_no_more_than_twenty_mistakes_are_listed(shared_agent: RunningAgent) -> None:
    """Error details share 8 KiB of metadata; more of them would lose the whole answer."""
    refused = await refusal(shared_agent.processes.Start(StartRequest(argv=["echo", *["\0"] * 500])))

    assert_invalid(refused, *[f"argv[{index}]" for index in range(1, 21)])


async def test_the_value_of_a_variable_is_in_no_error(shared_agent: RunningAgent) -> None:
    """Values are where the secrets are."""
    refused = await refusal(shared_agent.processes.Start(to_start("true", env={"TOKEN": "hunter2\0"})))

    assert "hunter2" not in repr(refused)


# Waits.

ANOTHERS = b"\1" + b"\0" * 24
"""A cursor of a process that never was."""

WRONG_WAITS: dict[str, tuple[list[WaitCondition], list[str]]] = {
    "nothing to wait for": ([], ["conditions"]),
    "too much to wait for": ([EXIT] * 17, ["conditions"]),
    "an empty condition": ([EXIT, WaitCondition()], ["conditions[1]"]),
    "no pattern": ([pattern("(")], ["conditions[0].pattern.pattern"]),
    "a back reference": ([pattern("(a)\\1")], ["conditions[0].pattern.pattern"]),
    "a pattern too long": ([pattern("x" * 1001)], ["conditions[0].pattern.pattern"]),
    "a pattern too long in UTF-8": ([pattern("ü" * 501)], ["conditions[0].pattern.pattern"]),
    "a pattern too large": ([pattern("\\pL{1000}")], ["conditions[0].pattern.pattern"]),
    "a cursor that is garbage": ([pattern("x", cursor=b"x")], ["conditions[0].pattern.cursor"]),
    "a cursor of another process": ([pattern("x", cursor=ANOTHERS)], ["conditions[0].pattern.cursor"]),
    "no port": ([port(0)], ["conditions[0].port.port"]),
    "a port too high": ([port(65_536)], ["conditions[0].port.port"]),
    "no path": ([file("")], ["conditions[0].file.path"]),
    "a path too long": ([file("/" * 4097)], ["conditions[0].file.path"]),
    "NUL in a path": ([file("a\0b")], ["conditions[0].file.path"]),
    "several": (
        [EXIT, pattern("[", cursor=b"x"), port(0), file("\0"), pattern("fine")],
        [f"conditions[{part}" for part in ("1].pattern.pattern", "1].pattern.cursor", "2].port.port", "3].file.path")],
    ),
}


@pytest.mark.parametrize("case", WRONG_WAITS)
async def test_each_wrong_field_of_a_wait_is_named(shared_agent: RunningAgent, case: str) -> None:
    """All of them at once, and nothing is waited for."""
    conditions, fields = WRONG_WAITS[case]
    async with started(shared_agent, ["sleep", "60"]) as start:
        refused = await refusal(shared_agent.processes.Wait(to_wait(start.process_id, *conditions)))

    assert_invalid(refused, *fields)


async def test_what_is_wrong_with_a_pattern_is_said_in_the_words_of_re2(shared_agent: RunningAgent) -> None:
    """It names the place, and nothing that the caller did not write."""
    over = await run(shared_agent, "true")

    refused = await refusal(shared_agent.processes.Wait(to_wait(over.process_id, pattern("[a-z"))))

    assert refused.violations == (("conditions[0].pattern.pattern", "is none in RE2's syntax: missing ]: [a-z"),)


async def test_the_longest_allowed_wait_is_answered(shared_agent: RunningAgent) -> None:
    """Sixteen conditions, a pattern of 1,000 bytes, and five minutes."""
    over = await run(shared_agent, "printf '%01000d'")
    conditions = [port(65_535), file("/" * 4096), *[EXIT] * 13, pattern("0" * 1000)]

    answer = await shared_agent.processes.Wait(to_wait(over.process_id, *conditions, timeout=300))

    assert answer.met in {0, 2}  # whether somebody listens there is not ours to say


@pytest.mark.parametrize("timeout", [-0.001, 300.001])
async def test_a_wait_has_an_end(shared_agent: RunningAgent, timeout: float) -> None:
    """Five minutes are the longest; who wants more asks again."""
    over = await run(shared_agent, "true")

    refused = await refusal(shared_agent.processes.Wait(to_wait(over.process_id, EXIT, timeout=timeout)))

    assert_invalid(refused, "timeout")


# Signals, cursors, offsets.


@pytest.mark.parametrize("number", [-1, 65, 2**31 - 1])
async def test_a_signal_is_a_number_from_1_to_64(shared_agent: RunningAgent, number: int) -> None:
    """Whatever is none is refused before anything is sent."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        refused = await refusal(
            shared_agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=number))
        )

    assert_invalid(refused, "signal")


def filtered(**fields: Any) -> ProcessServiceListRequest:
    return ProcessServiceListRequest(filter=ProcessFilter(**fields))


WRONG_LISTS: dict[str, tuple[ProcessServiceListRequest, str]] = {
    "too large a page": (ProcessServiceListRequest(page_size=1001), "page_size"),
    "garbage for a page": (ProcessServiceListRequest(page_token=b"x"), "page_token"),
    "a token of another version": (ProcessServiceListRequest(page_token=b"\2" + bytes(21)), "page_token"),
    "a state that is never sent": (filtered(states=[0]), "filter.states[0]"),
    "an unknown state": (filtered(states=[1, 9]), "filter.states[1]"),
    "a label too long": (filtered(labels={"a": "x" * 256}), "filter.labels['a']"),
    "too many labels": (filtered(labels={f"l{i}": "" for i in range(33)}), "filter.labels"),
    "too many of both": (
        filtered(labels={f"l{i}": "" for i in range(20)}, label_names=["a"] * 13),
        "filter.label_names",
    ),
    "a label without a name": (filtered(label_names=[""]), "filter.label_names"),
    "a label's name too long": (filtered(label_names=["x" * 64]), "filter.label_names"),
}


@pytest.mark.parametrize("case", WRONG_LISTS)
async def test_each_wrong_field_of_a_list_is_named(shared_agent: RunningAgent, case: str) -> None:
    """A filter that was misunderstood would show the wrong processes."""
    request, field = WRONG_LISTS[case]

    assert_invalid(await refusal(shared_agent.processes.List(request)), field)


async def test_the_labels_of_a_watch_have_the_same_bounds(shared_agent: RunningAgent) -> None:
    """What no process can have, nobody need wait for."""
    named = ProcessServiceWatchRequest(labels={"": "x"})
    unnamed = ProcessServiceWatchRequest(label_names=[""])

    assert_invalid(await refusal(shared_agent.processes.Watch(named)), "labels")
    assert_invalid(await refusal(shared_agent.processes.Watch(unnamed)), "label_names")


async def test_a_cancel_names_something(shared_agent: RunningAgent) -> None:
    """A process, or the key of a start; one of the two."""
    refused = await refusal(shared_agent.processes.Cancel(ProcessServiceCancelRequest()))

    assert_invalid(refused, "process_id")


GARBAGE = [b"x", b"\0" * 25, b"\2" + b"\0" * 24, b"\0" * 33, b"x" * 64, b"x" * 10_000]


@pytest.mark.parametrize("cursor", GARBAGE, ids=range(len(GARBAGE)))
async def test_a_cursor_that_is_garbage_is_refused(shared_agent: RunningAgent, cursor: bytes) -> None:
    """Of Attach and of Watch; anything else might start in the middle of nowhere."""
    over = await run(shared_agent, "true")

    by_attach = shared_agent.processes.Attach(AttachRequest(process_id=over.process_id, cursor=cursor))
    by_watch = shared_agent.processes.Watch(ProcessServiceWatchRequest(cursor=cursor))

    assert_invalid(await refusal(by_attach), "cursor")
    assert_invalid(await refusal(by_watch), "cursor")


async def test_a_cursor_of_another_process_is_refused(shared_agent: RunningAgent) -> None:
    """Its position would mean something else there."""
    one, other = await run(shared_agent, "echo one"), await run(shared_agent, "echo other")

    refused = await refusal(
        shared_agent.processes.Attach(AttachRequest(process_id=one.process_id, cursor=other.cursor))
    )

    assert_invalid(refused, "cursor")


@pytest.mark.parametrize("offset", [5, 2**63, 2**64 - 1])
async def test_an_offset_beyond_the_output_is_out_of_range(shared_agent: RunningAgent, offset: int) -> None:
    """The caller has read what was never printed: it has mistaken one process for another."""
    over = await run(shared_agent, "printf 1234")

    call = shared_agent.processes.Attach(AttachRequest(process_id=over.process_id, from_offset=offset))
    refused = await refusal(call)

    wait = to_wait(over.process_id, EXIT, pattern("x", from_offset=offset))
    for each in (refused, await refusal(shared_agent.processes.Wait(wait))):
        assert each.code is grpc.StatusCode.OUT_OF_RANGE
        assert each.reason == "OFFSET_OUT_OF_RANGE"
        assert (each.facts["offset"], each.facts["output_bytes"]) == (str(offset), "4")


@pytest.mark.parametrize("process_id", ["", "x", "../../etc/passwd", str(uuid.UUID(int=0)), str(uuid.UUID(int=7))])
async def test_an_id_that_is_none_is_not_found(shared_agent: RunningAgent, process_id: str) -> None:
    """However it looks: there is one answer for all that does not exist."""
    by_attach = await refusal(shared_agent.processes.Attach(AttachRequest(process_id=process_id)))
    by_signal = await refusal(shared_agent.processes.Signal(SignalRequest(process_id=process_id)))

    by_wait = await refusal(shared_agent.processes.Wait(to_wait(process_id, EXIT)))

    for refused in (by_attach, by_signal, by_wait):
        assert refused.code is grpc.StatusCode.NOT_FOUND
        assert refused.reason == "PROCESS_NOT_FOUND"
        assert refused.facts["process_id"] == process_id
