"""What waits, shows and tidies up: with an agent that follows a script, and where it can with a real one."""

import base64
import json
from collections.abc import AsyncIterator

import grpc
import pytest

from guyline.agent.v1 import process_pb2
from guyline.agent.v1 import process_service_pb2 as pb
from guyline.stream.v1.stream_pb2 import StreamControl
from tests.cli.command import Command
from tests.client.scripted import (
    PROCESS_ID,
    Play,
    ScriptedAgent,
    as_run,
    began,
    breaks,
    fails,
    gives,
    printed,
    process,
    scripted_agent,
)

OTHER_ID = "00000000-0000-4000-8000-000000000002"
_ATTACHED = gives(pb.AttachResponse(process=process(), control=StreamControl(cursor=b"0")))


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedAgent]:
    """An agent that follows a script."""
    async with scripted_agent() as agent:
        yield agent


@pytest.fixture
def command(scripted: ScriptedAgent) -> Command:
    """The command, with that agent."""
    return Command(scripted.address)


def _struck(limit: process_pb2.TimeLimit.ValueType) -> pb.RunResponse:
    exit_ = process_pb2.Exit(signal=15, ended_by=process_pb2.ENDED_BY_TIME_LIMIT, time_limit=limit)
    return pb.RunResponse(exit=exit_, control=StreamControl(cursor=b"1"))


@pytest.mark.parametrize(
    ("limit", "name"),
    [(process_pb2.TIME_LIMIT_TIMEOUT, "its timeout"), (process_pb2.TIME_LIMIT_IDLE_TIMEOUT, "its idle timeout")],
)
async def test_a_limit_of_time_that_struck_is_said_by_name(
    scripted: ScriptedAgent, command: Command, limit: process_pb2.TimeLimit.ValueType, name: str
) -> None:
    """The exit code is that of timeout(1), whatever the command made of its signal."""
    scripted.plays(gives(began(), as_run(printed(b"x\n", offset=0)), _struck(limit)))

    result = await command("exec", "--timeout", "1.5s", "--idle-timeout", "2m", "--grace", "100ms", "true")

    assert (result.code, result.out) == (124, "x\n")
    assert result.err == f"guyline: ended by {name} (signal 15 (SIGTERM))\n"
    limits = scripted.calls[0].start.time_limits
    assert [each.ToMilliseconds() for each in (limits.timeout, limits.idle_timeout, limits.grace)] == [
        1500,
        120000,
        100,
    ]


async def test_a_command_that_is_left_running_says_its_id(scripted: ScriptedAgent, command: Command) -> None:
    """§17 no. 16: it is told plainly, with what to do about it."""
    left = pb.RunResponse(limit=process_pb2.TIME_LIMIT_DETACH_AFTER)
    scripted.plays(*[gives(began(), as_run(printed(b"x\n", offset=0)), left)] * 2)

    result = await command("exec", "--detach-after", "1s", "true")
    as_json = await command("exec", "--json", "--detach-after", "1s", "true")

    assert (result.code, result.out) == (124, "x\n")
    assert f"still running, id {PROCESS_ID}" in result.err
    assert json.loads(as_json.out.splitlines()[-1]) == {"process_id": PROCESS_ID, "exit": None}


async def test_exec_passes_on_how_to_run(scripted: ScriptedAgent, command: Command) -> None:
    """Labels, user, limits; what is not said is not sent."""
    started = gives(pb.StartResponse(process=process()))
    scripted.plays(started, started)

    await command(
        "exec", "-d", "--label", "job=7", "--user", "nobody", "--nice", "-5", "--memory", "512m", "--cpus", "1.5",
        "--env", "TOKEN=secret", "--redact", "TOKEN", "true",
    )  # fmt: skip
    await command("exec", "-d", "true")

    full, bare = scripted.calls
    assert (dict(full.labels), list(full.redact), full.privileges.user) == ({"job": "7"}, ["TOKEN"], "nobody")
    assert (full.privileges.nice, full.privileges.HasField("umask")) == (-5, False)
    assert (full.privileges.group_limits.memory_bytes, full.privileges.group_limits.cpus) == (512 << 20, 1.5)
    assert not bare.HasField("privileges")
    assert not bare.HasField("time_limits")


async def test_wait_says_which_one_it_was(scripted: ScriptedAgent, command: Command) -> None:
    """A script that waits for a server wants to know whether it is up or gone."""
    match = pb.PatternMatch(offset=7, data=b"ready\x1b[0m", cursor=b"12")
    pattern = gives(pb.ProcessServiceWaitResponse(process=process(), met=1, match=match))
    ended = gives(pb.ProcessServiceWaitResponse(process=process(exit=process_pb2.Exit(code=3)), met=0))
    scripted.plays(_ATTACHED, pattern, _ATTACHED, ended, _ATTACHED, pattern)
    conditions = ("--for", "exit", "--for", "/read./", "--for", "port:8080", "--for", "file:out/pid")

    first = await command("wait", PROCESS_ID, *conditions)
    second = await command("wait", PROCESS_ID)
    as_json = await command("wait", "--json", PROCESS_ID, *conditions)

    assert (first.code, first.out) == (0, "/read./  at 7: ready\N{REPLACEMENT CHARACTER}[0m\n")
    assert (second.code, second.out) == (0, "exit  exit code 3\n")
    assert json.loads(as_json.out)["match"]["cursor"] == base64.b64encode(b"12").decode()
    sent = scripted.calls[1].conditions
    assert [each.WhichOneof("condition") for each in sent] == ["exit", "pattern", "port", "file"]
    assert (sent[1].pattern.pattern, sent[2].port.port, sent[3].file.path) == ("read.", 8080, "out/pid")


async def test_wait_in_vain_has_codes_of_its_own(scripted: ScriptedAgent, command: Command) -> None:
    """That the time is over is no answer; that it will never be is one."""
    for over in (pb.WAIT_OVER_TIMEOUT, pb.WAIT_OVER_OUTPUT_ENDED, pb.WAIT_OVER_TIMEOUT):
        scripted.plays(_ATTACHED, gives(pb.ProcessServiceWaitResponse(process=process(), over=over)))

    late = await command("wait", "--timeout", "1ms", PROCESS_ID)
    never = await command("wait", "--for", "/x/", PROCESS_ID)
    as_json = await command("--json", "wait", "--timeout", "1ms", PROCESS_ID)

    assert (late.code, never.code, as_json.code) == (124, 1, 124)
    assert "the time is over" in late.err
    assert json.loads(as_json.out)["over"] == "timeout"


async def test_view_shows_what_a_model_would_see(scripted: ScriptedAgent, command: Command) -> None:
    """And goes on where an earlier one ended."""
    view = gives(pb.GetOutputResponse(process=process(), view=pb.OutputView(text=b"head\n...\ntail"), cursor=b"9"))
    scripted.plays(_ATTACHED, view, _ATTACHED, view)

    as_json = json.loads((await command("view", "--json", PROCESS_ID)).out)
    shown = await command(
        "view", "--raw", "--since-cursor", as_json["cursor"], "--wait", "5s", "--new", "--max", "4k", PROCESS_ID
    )

    assert (shown.code, shown.out) == (0, "head\n...\ntail")
    assert as_json["text"] == "head\n...\ntail"
    asked = scripted.calls[3]
    assert (asked.cursor, asked.style, asked.wait_for) == (b"9", pb.OUTPUT_STYLE_RAW, pb.OUTPUT_WAIT_OUTPUT)
    assert (0 < asked.wait.ToMilliseconds() <= 5000, asked.max_bytes) == (True, 4096)


def _running(process_id: str, sequence: int, *, cpu: int, memory: int) -> process_pb2.Process:
    running = process_pb2.Process(
        process_id=process_id, state=process_pb2.PROCESS_STATE_RUNNING, command=f"job {sequence}", sequence=sequence,
        pid=100 + sequence, labels={"job": str(sequence)}, output_bytes=10 * sequence,
    )  # fmt: skip
    running.started_at.GetCurrentTime()
    running.started_at.seconds -= 100
    running.usage.cpu.seconds, running.usage.memory_bytes, running.usage.processes = cpu, memory, 1
    return running


_LISTED = gives(
    pb.ProcessServiceListResponse(
        processes=[
            _running(PROCESS_ID, 2, cpu=1, memory=4 << 20),
            _running(OTHER_ID, 1, cpu=50, memory=1 << 20),
        ]
    )
)


@pytest.mark.parametrize(
    ("key", "first"), [("cpu", 1), ("memory", 2), ("age", 1), ("output", 2), ("command", 1), ("id", 2)]
)
async def test_ps_can_be_sorted(scripted: ScriptedAgent, command: Command, key: str, first: int) -> None:
    """By what matters now."""
    scripted.plays(_LISTED)

    result = await command("ps", "--sort", key, "--label", "job", "--label", "empty=", "--labels")

    header, *rows = result.out.splitlines()
    assert [row.split()[-1] for row in rows] == [str(first), str(3 - first)]
    assert f"job={first}" in rows[0]
    assert ("MEMORY" in header.split()) == (key in {"cpu", "memory"}) == scripted.calls[0].usage
    wanted = scripted.calls[0].filter
    assert (dict(wanted.labels), list(wanted.label_names)) == ({"empty": ""}, ["job"])


async def test_top_shows_the_busiest_first(scripted: ScriptedAgent, command: Command) -> None:
    """Where there is no terminal, once."""
    scripted.plays(_LISTED, _LISTED)

    result = await command("top")
    as_json = json.loads((await command("top", "--json")).out)

    header, *rows = result.out.splitlines()
    assert header.split() == ["ID", "PID", "AGE", "CPU%", "CPU", "MEMORY", "PROCS", "COMMAND"]
    assert [row.split()[0] for row in rows] == [OTHER_ID, PROCESS_ID]
    assert rows[0].split()[4:] == ["50s", "1.0", "MiB", "1", "job", "1"]
    assert [each["process"]["process_id"] for each in as_json["processes"]] == [OTHER_ID, PROCESS_ID]
    assert scripted.calls[0].usage


async def test_rm_forgets_what_has_ended(scripted: ScriptedAgent, command: Command) -> None:
    """One that runs is not ended by the way."""
    running = fails(grpc.StatusCode.FAILED_PRECONDITION, "PROCESS_RUNNING")
    scripted.plays(gives(pb.ProcessServiceRemoveResponse()), running)

    removed = await command("rm", "--json", PROCESS_ID)
    refused = await command("rm", PROCESS_ID)

    assert json.loads(removed.out) == {"removed": PROCESS_ID}
    assert refused.code == 125
    assert "`guyline kill` ends it" in refused.err


async def test_prune_says_how_many_and_how_much(scripted: ScriptedAgent, command: Command) -> None:
    """Running ones and young ones stay; what somebody else has removed is not counted."""
    old = process_pb2.Process(process_id=PROCESS_ID, state=process_pb2.PROCESS_STATE_EXITED, output_bytes=2048)
    old.exit.ended_at.seconds = 1
    young = process_pb2.Process(process_id=OTHER_ID, state=process_pb2.PROCESS_STATE_EXITED)
    young.exit.ended_at.GetCurrentTime()
    runs = process(started_at=old.exit.ended_at)
    listed = gives(pb.ProcessServiceListResponse(processes=[runs, young, old]))
    gone = fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND")
    scripted.plays(listed, gives(pb.ProcessServiceRemoveResponse()), listed, gone)

    first = await command("prune", "--older-than", "1h", "--label", "job=7")
    second = json.loads((await command("prune", "--json", "--older-than", "1h")).out)

    assert (first.code, first.out) == (0, "1 process forgotten, with 2.0 KiB of output\n")
    assert second == {"removed": [], "output_bytes": 0}
    assert dict(scripted.calls[0].filter.labels) == {"job": "7"}
    assert [call.process_id for call in scripted.calls if isinstance(call, pb.ProcessServiceRemoveRequest)] == [
        PROCESS_ID,
        PROCESS_ID,
    ]


async def test_prune_outlasts_a_lost_answer(scripted: ScriptedAgent, command: Command) -> None:
    """What is unknown when it asks again is forgotten, and counts."""
    lost = breaks()
    gone = fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND")
    scripted.plays(_lists_ended(PROCESS_ID), lost, gone)

    pruned = await command("prune", "--json")

    assert (pruned.code, json.loads(pruned.out)["removed"]) == (0, [PROCESS_ID])


async def test_prune_says_what_it_has_done_before_it_fails(scripted: ScriptedAgent, command: Command) -> None:
    """Otherwise nobody would ever learn what is gone."""
    removed = gives(pb.ProcessServiceRemoveResponse())
    refused = fails(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    scripted.plays(_lists_ended(PROCESS_ID, OTHER_ID), removed, refused)

    pruned = await command("prune", "--json")

    assert pruned.code == 125
    assert json.loads(pruned.out)["removed"] == [PROCESS_ID]
    assert "it failed: PERMISSION_DENIED" in pruned.err


async def test_rm_outlasts_a_lost_answer(scripted: ScriptedAgent, command: Command) -> None:
    """Only what was unknown from the first is an error."""
    lost = breaks()
    gone = fails(grpc.StatusCode.NOT_FOUND, "PROCESS_NOT_FOUND")
    scripted.plays(lost, gone, gone)

    removed = await command("rm", PROCESS_ID)
    unknown = await command("rm", PROCESS_ID)

    assert (removed.code, unknown.code) == (0, 125)


def _lists_ended(*process_ids: str) -> Play:
    ended = [process_pb2.Process(process_id=each, state=process_pb2.PROCESS_STATE_EXITED) for each in process_ids]
    return gives(pb.ProcessServiceListResponse(processes=ended))


async def test_ps_lists_all_that_ended(guyline: Command) -> None:
    """With a real agent: by default only some, since there may be many."""
    for _ in range(3):
        await guyline("exec", "-c", "true")

    some = json.loads((await guyline("ps", "--json", "-n", "2")).out)
    everything = json.loads((await guyline("ps", "--json", "-a")).out)

    assert len([each for each in some["processes"] if each["exit"]]) == 2
    assert len([each for each in everything["processes"] if each["exit"]]) == everything["ended_total"] >= 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["wait", "--for", "soon", "x"],
        ["wait", "--for", "port:0", "x"],
        ["wait", "--for", "file:", "x"],
        ["view", "--since-cursor", "!", "x"],
        ["view", "--max", "much", "x"],
        ["ps", "--sort", "beauty"],
        ["ps", "-a", "-n", "3"],
        ["top", "--interval", "often"],
        ["prune", "--label", "="],
        ["prune", "--label", "job=1", "--label", "job=2"],
        ["ps", "--label", "job", "--label", "job=2"],
        ["rm"],
    ],
    ids=" ".join,
)
async def test_wrong_usage_is_said(arguments: list[str]) -> None:
    """Exit code 2, before any agent is asked."""
    result = await Command("unix:/no/such/agent.sock")(*arguments)

    assert result.code == 2
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--label", "job"],
        ["--label", "job=1", "--label", "job=2"],
        ["--nice", "20"],
        ["--umask", "8"],
        ["--umask", "1777"],
        ["--oom-score", "1001"],
        ["--ulimit", "files=3"],
        ["--ulimit", "nofile"],
        ["--ulimit", "nofile=1:"],
        ["--cpus", "0"],
        ["--memory", "big"],
        ["--timeout", "soon"],
        ["--detach-after", "99999999999999999d"],
        ["--memory", "9999999999g"],
        ["--cpus", "9" * 400],
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
async def test_wrong_usage_of_exec_is_no_exit_code_of_a_command(arguments: list[str]) -> None:
    """Every small code could be the command's own."""
    assert (await Command("unix:/no/such/agent.sock")("exec", *arguments, "true")).code == 125
