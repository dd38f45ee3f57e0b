"""A command runs as it would in a shell of one's own, and how it ended is told as it was."""

import os
import uuid
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1.process_pb2 import (
    ENDED_BY_ITSELF,
    OUTPUT_MODE_MERGED,
    OUTPUT_MODE_SEPARATE,
    OUTPUT_STREAM_STDERR,
    OUTPUT_STREAM_STDOUT,
    PROCESS_STATE_EXITED,
    PROCESS_STATE_RUNNING,
    WHEN_FULL_DROP_OLDEST,
    WHEN_FULL_PAUSE,
)
from guyline.agent.v1.process_service_pb2 import RunRequest, RunResponse
from tests.agentd.process.process_parts import in_chat, refusal, run, started, to_seconds, to_start
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE
from tests.support.program import program
from tests.support.programs import noise

HOME = Path.home().resolve()


@pytest.mark.parametrize("code", [0, 1, 7, 126, 127, 255])
async def test_the_exit_code_is_the_commands_own(shared_agent: RunningAgent, code: int) -> None:
    """Scripts decide by it; also 126 and 127 are the shell's words here, not the agent's."""
    over = await run(shared_agent, f"exit {code}")

    assert over.exit.WhichOneof("status") == "code"
    assert over.exit.code == code
    assert over.process.state == PROCESS_STATE_EXITED
    assert over.exit.ended_by == ENDED_BY_ITSELF


@pytest.mark.parametrize("number", [1, 6, 9, 11, 15])
async def test_a_death_by_signal_names_the_signal(shared_agent: RunningAgent, number: int) -> None:
    """A crash is no exit code, and never minus one."""
    over = await run(shared_agent, f"ulimit -c 0; kill -{number} $$")

    assert over.exit.WhichOneof("status") == "signal"
    assert over.exit.signal == number
    assert over.exit.ended_by == ENDED_BY_ITSELF
    assert not over.exit.core_dumped


async def test_a_shell_that_reports_a_killed_child_has_exited_by_itself(shared_agent: RunningAgent) -> None:
    """137 from a shell is an ordinary code; only the wait status says what it was."""
    over = await run(shared_agent, "sh -c 'kill -9 $$'; exit $?")

    assert over.exit.code == 137


async def test_a_command_line_goes_to_the_shell_and_argv_does_not(shared_agent: RunningAgent) -> None:
    """What a caller quotes for no shell must meet none."""
    line = await run(shared_agent, "echo $((1 + 1)) | cat")
    argv = await run(shared_agent, ["echo", "$((1 + 1)) | cat", "a  b", ""])

    assert line.data == b"2\n"
    assert line.process.command == "echo $((1 + 1)) | cat"
    assert list(line.process.argv) == ["sh", "-c", "echo $((1 + 1)) | cat"]
    assert argv.data == b"$((1 + 1)) | cat a  b \n"
    assert not argv.process.command


async def test_standard_input_is_at_its_end(shared_agent: RunningAgent) -> None:
    """A command that asks for input gets an answer at once, rather than hang for ever."""
    over = await run(shared_agent, "readlink /proc/self/fd/0; cat; echo over")

    assert over.data == b"/dev/null\nover\n"


async def test_a_command_has_a_session_and_a_group_of_its_own(shared_agent: RunningAgent) -> None:
    """So that a signal can reach all of it, and nothing of the agent's."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        status = proc.status(start.process.pid)

        assert status is not None
        assert status.pid == status.group == status.session
        assert status.parent == shared_agent.keeper_pid


async def test_a_command_inherits_no_descriptor_and_no_ignored_signal(shared_agent: RunningAgent) -> None:
    """A descriptor too many keeps pipes open; an ignored SIGPIPE makes `yes | head` run for ever."""
    over = await run(shared_agent, "ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status")

    lines = over.data.split()
    assert lines[:4] == [b"0", b"1", b"2", b"3"]  # 3 is the one that lists them
    blocked, ignored = int(lines[5], 16), int(lines[7], 16)
    assert (blocked, ignored & 0x7FFFFFFF) == (0, 0)  # 32 and 33 are the C library's, which ignores them itself


# The working directory.


async def test_without_a_directory_a_command_starts_at_home(shared_agent: RunningAgent) -> None:
    """And never in whatever directory the agent was started in."""
    over = await run(shared_agent, "pwd -P")

    assert over.data.decode().strip() == str(HOME)
    assert over.process.directory == str(Path.home())


@pytest.mark.parametrize(
    ("directory", "expected"),
    [("/", Path("/")), ("/proc/..", Path("/")), ("~", HOME), ("~/", HOME), ("~/..", HOME.parent), (".", HOME)],
)
async def test_a_directory_may_be_absolute_relative_or_at_home(
    shared_agent: RunningAgent, directory: str, expected: Path
) -> None:
    """As a person at a prompt would say it."""
    over = await run(shared_agent, "pwd -P", directory=directory)

    assert over.data.decode().strip() == str(expected)


async def test_a_relative_directory_starts_from_the_configured_one(tmp_path: Path) -> None:
    """The default directory is where the project is, and that is what callers mean by `src`."""
    (tmp_path / "src").mkdir()
    async with RunningAgent(settings={"directory": tmp_path}) as agent:
        inside, default = await run(agent, "pwd", directory="src"), await run(agent, "pwd")

    assert inside.data.decode() == f"{tmp_path}/src\n"
    assert default.data.decode() == f"{tmp_path}\n"


@pytest.mark.parametrize(("directory", "errno"), [("/nowhere/at/all", "ENOENT"), ("/etc/passwd", "ENOTDIR")])
async def test_a_directory_that_cannot_be_used_is_refused_by_name(
    shared_agent: RunningAgent, directory: str, errno: str
) -> None:
    """The command never ran, and the caller learns which of its words was wrong."""
    request = to_start("true", directory=directory)
    refused = await refusal(shared_agent.processes.Start(request))
    refused_by_run = await refusal(shared_agent.processes.Run(RunRequest(start=request)))

    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.reason == "DIRECTORY_NOT_USABLE"
    assert refused.facts["errno"] == errno
    assert refused.facts["outcome"] == "NOT_STARTED"
    assert refused.fields == ["directory"]
    assert refused_by_run.fields == ["start.directory"]
    assert directory in refused.message


# The environment.


async def test_variables_of_the_request_win_over_the_agents_own() -> None:
    """And what the request does not name comes through."""
    async with RunningAgent(environment={"MINE": "agent", "THEIRS": "agent"}) as agent:
        over = await run(agent, 'echo "$MINE $THEIRS $NEW"', env={"THEIRS": "request", "NEW": "a b\nc=ü"})

    assert over.data.decode() == "agent request a b\nc=ü\n"


async def test_a_command_of_a_chat_knows_its_chat_whatever_the_request_says(shared_agent: RunningAgent) -> None:
    """Helpers (askpass, for one) act for the chat that it names, so it must not be forged."""
    chat_id = str(uuid.uuid4())
    over = await run(shared_agent, "env", env={"CODER_CHAT_ID": "forged"}, metadata=in_chat(chat_id.upper()))

    named = [line for line in over.data.decode().splitlines() if line.startswith("CODER_CHAT_ID=")]
    assert named == [f"CODER_CHAT_ID={chat_id}"]
    assert over.process.chat_id == chat_id


async def test_without_a_chat_nothing_is_added_to_the_environment(shared_agent: RunningAgent) -> None:
    """A command sees what the agent was started with, and nothing of the agent's own workings."""
    over = await run(shared_agent, ["env", "-0"])

    names = {line.partition(b"=")[0].decode() for line in over.data.split(b"\0") if line}
    expected = {name for name in os.environ if not name.startswith("GUYLINE_AGENT_")}
    assert names - expected <= {"GUYLINE_TEST_MARK", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"}
    assert not over.process.chat_id


async def test_a_program_is_looked_up_on_the_path_that_it_gets(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """A project's own tools come first because its PATH says so, not the agent's."""
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o700)

    over = await run(shared_agent, ["tool"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    assert over.data == b"mine\n"


# Programs that cannot be executed.


@pytest.mark.parametrize(
    ("content", "mode", "errno"),
    [
        (None, 0, "ENOENT"),
        (b"#!/bin/sh\n", 0o600, "EACCES"),
        (b"\0garbage", 0o700, "ENOEXEC"),
        (b"#!/nowhere/interpreter\n", 0o700, "ENOENT"),
    ],
)
async def test_a_program_that_cannot_be_executed_is_an_error_with_the_errnos_name(
    shared_agent: RunningAgent, tmp_path: Path, content: bytes | None, mode: int, errno: str
) -> None:
    """Never a made-up exit code: what did not run has none."""
    tool = tmp_path / "tool"
    if content is not None:
        tool.write_bytes(content)
        tool.chmod(mode)

    refused = await refusal(shared_agent.processes.Run(RunRequest(start=to_start([str(tool)]))))

    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.reason == "COMMAND_NOT_RUNNABLE"
    assert refused.facts["errno"] == errno
    assert refused.facts["program"] == str(tool)
    assert refused.facts["outcome"] == "NOT_STARTED"


async def test_what_could_not_be_started_is_not_listed(agent: RunningAgent) -> None:
    """There is nothing to follow, to signal or to wait for."""
    await refusal(agent.processes.Start(to_start(["no-such-program-anywhere"])))
    over = await run(agent, "echo fine")

    assert over.data == b"fine\n"
    assert over.process.sequence > 0
    assert not [pid for pid in proc.children(agent.keeper_pid) if pid.is_zombie]


# Output.


async def test_merged_output_comes_in_the_order_in_which_it_was_written(shared_agent: RunningAgent) -> None:
    """An error belongs after the line that led to it."""
    over = await run(shared_agent, "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done")

    assert over.data == b"".join(b"o%d\ne%d\n" % (i, i) for i in range(1, 6))
    assert over.process.output_mode == OUTPUT_MODE_MERGED
    assert not over.runs


async def test_separate_output_says_of_each_byte_which_stream_it_came_from(shared_agent: RunningAgent) -> None:
    """Two streams, one numbering: a reader resumes both by one offset."""
    seed, size = 11, 3 * 300_000 + 1
    over = await run(
        shared_agent,
        program("noise", seed, size, "--chunk", 1000, "--stderr-every", 3),
        output_mode=OUTPUT_MODE_SEPARATE,
    )

    pieces = list(noise.pieces(seed, size, 1000))
    assert over.of_stream(OUTPUT_STREAM_STDERR) == b"".join(pieces[2::3])
    assert over.of_stream(OUTPUT_STREAM_STDOUT) == b"".join(piece for i, piece in enumerate(pieces) if i % 3 != 2)
    assert over.process.output_bytes == size


async def test_output_may_be_any_bytes(shared_agent: RunningAgent) -> None:
    """All 256 of them, NUL and broken UTF-8 among them."""
    over = await run(shared_agent, program("noise", 3, 1_000_003, "--chunk", 4099))

    assert len(over.data) == 1_000_003
    assert over.data == b"".join(noise.stream(3, 1_000_003))
    assert set(over.data) == set(range(256))


async def test_messages_stay_small_enough_and_are_numbered_without_a_break(shared_agent: RunningAgent) -> None:
    """Larger messages are slower on the wire, and each says where its data stands."""
    over = await run(shared_agent, program("noise", 4, 2_000_000))

    position = 0
    for message in over.messages:
        assert len(message.data) <= 128 * 1024
        assert message.offset == position
        position += len(message.data)
    assert position == over.process.output_bytes == 2_000_000


async def test_a_short_command_is_one_message(shared_agent: RunningAgent) -> None:
    """Most commands are short, and a message is what a call costs."""
    counts = [len((await run(shared_agent, ["echo", "short"])).messages) for _ in range(10)]

    assert min(counts) == 1, f"not one of ten came in one message: {counts}"


async def test_the_first_message_says_what_was_started_and_by_whom(shared_agent: RunningAgent) -> None:
    """A caller whose connection breaks a moment later can come back by it."""
    over = await run(shared_agent, "echo hello", background=True)

    first, last = over.messages[0], over.messages[-1]
    assert first.process.process_id == str(uuid.UUID(over.process_id))
    assert isinstance(first, RunResponse)
    assert not first.attached
    assert first.instance_id
    assert first.process.background
    assert last.control.HasField("ended")


async def test_run_pauses_by_default_and_start_drops(shared_agent: RunningAgent) -> None:
    """Who follows from the start wants everything; who walks away wants no command held up."""
    over = await run(shared_agent, "true")
    async with started(shared_agent, "true") as start:
        assert start.process.when_full == WHEN_FULL_DROP_OLDEST
        assert start.process.output_mode == OUTPUT_MODE_MERGED

    assert over.process.when_full == WHEN_FULL_PAUSE


async def test_a_start_answers_while_the_command_runs(shared_agent: RunningAgent) -> None:
    """And says all that is known of it by then."""
    async with started(shared_agent, ["sleep", "60"]) as start:
        assert start.process_id == start.process.process_id
        assert start.process.state == PROCESS_STATE_RUNNING
        assert not start.process.HasField("exit")
        assert not start.attached
        assert start.process.output_open
        assert 0 <= to_seconds(start.age) < DEADLINE
        assert proc.is_alive(start.process.pid)


async def test_the_exit_tells_what_the_command_used(shared_agent: RunningAgent) -> None:
    """CPU time and memory as the kernel counted them, of its children too."""
    work = "sh -c 'python3 -S -c \"x = bytearray(64 << 20); n = sum(range(3000000))\"'"
    over = await run(shared_agent, work)

    assert 0.01 < to_seconds(over.exit.user_cpu) < 10
    assert to_seconds(over.exit.system_cpu) > 0
    assert 64 << 20 < over.exit.peak_memory_bytes < 256 << 20
    assert to_seconds(over.process.started_at) <= to_seconds(over.exit.ended_at)


async def test_later_starts_have_larger_sequence_numbers(shared_agent: RunningAgent) -> None:
    """Clocks repeat and go back; this does not."""
    numbers = [(await run(shared_agent, "true")).process.sequence for _ in range(3)]

    assert numbers == sorted(set(numbers))
