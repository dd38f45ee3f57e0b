"""What a command leaves behind neither delays its end, nor changes its code, nor loses a byte."""

import os
import signal
from pathlib import Path

from guyline.agent.v1.process_pb2 import (
    DESCENDANTS_CGROUP,
    DESCENDANTS_GROUP,
    DESCENDANTS_SESSION,
    ENDED_BY_ITSELF,
    PROCESS_STATE_EXITED,
    WHEN_FULL_DROP_OLDEST,
)
from guyline.agent.v1.process_service_pb2 import RunRequest
from tests.agentd.process.process_parts import (
    MIB,
    a_line,
    attach,
    end,
    follow,
    output_closed,
    printed,
    run,
    snapshot,
    started,
    to_start,
)
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import until
from tests.support.program import program


async def test_a_daemon_that_holds_the_pipe_neither_delays_the_end_nor_changes_the_code(
    shared_agent: RunningAgent,
) -> None:
    """`npm start & exit 3` is over, with 3; that somebody still could print is said apart."""
    over = await run(shared_agent, "sleep 60 & echo $!; exit 3")

    assert over.exit.code == 3
    assert over.exit.ended_by == ENDED_BY_ITSELF
    assert list(over.exit.descendants_left) == [DESCENDANTS_GROUP]
    assert over.process.output_open
    assert proc.is_alive(int(over.data))
    await end(shared_agent, over.process_id)


async def test_the_last_descendant_closes_the_output(shared_agent: RunningAgent) -> None:
    """Who watches the process learns when nobody can print any more."""
    over = await run(shared_agent, "sleep 60 & exit 0")
    await end(shared_agent, over.process_id)

    closed = await output_closed(shared_agent, over.process_id)

    assert closed.exit == over.exit


async def test_without_descendants_nothing_is_left(shared_agent: RunningAgent) -> None:
    """Children that were waited for, and zombies, are no descendants left."""
    over = await run(shared_agent, "sh -c 'exit 4'; (true) & wait; true & exit 0")

    assert over.exit.code == 0
    assert set(over.exit.descendants_left) <= {DESCENDANTS_GROUP}  # the last one may just be ending
    waited_for = await run(shared_agent, "sh -c 'exit 4'; true & wait; exit 0")
    assert not waited_for.exit.descendants_left
    assert not waited_for.process.output_open


async def test_a_daemon_of_the_old_school_escapes_and_its_output_still_lands(shared_agent: RunningAgent) -> None:
    """Two forks and a session of its own: the command is over at once; what the daemon prints later is kept."""
    over = await run(shared_agent, program("daemon", "--say", "from beyond"))
    daemon = int(over.data)
    assert over.exit.code == 0
    assert set(over.exit.descendants_left) <= {DESCENDANTS_CGROUP}  # it is in neither its group nor its session
    assert over.process.output_open

    os.kill(daemon, signal.SIGUSR1)
    await proc.dead(daemon)

    await output_closed(shared_agent, over.process_id)
    late = await snapshot(shared_agent, over.process_id)
    assert late.data == over.data + b"from beyond"
    assert late.exit.code == 0


async def test_an_escaped_daemon_becomes_the_keepers_and_is_reaped(shared_agent: RunningAgent) -> None:
    """In a container nobody else would; a zombie for each daemon fills the process table."""
    over = await run(shared_agent, program("daemon"))
    daemon = int(over.data)

    status = proc.status(daemon)
    assert status is not None
    assert status.parent == shared_agent.keeper_pid
    os.kill(daemon, signal.SIGKILL)
    await until(lambda: proc.status(daemon) is None)


async def test_a_background_job_of_a_shell_with_job_control_is_left_in_the_session(
    shared_agent: RunningAgent,
) -> None:
    """`set -m` gives each job a group of its own, which a signal to the command's group does not reach."""
    over = await run(shared_agent, ["bash", "-c", "set -m; sleep 60 >/dev/null 2>&1 & echo $!"])

    assert over.exit.code == 0
    assert list(over.exit.descendants_left) == [DESCENDANTS_SESSION]
    job = int(over.data.split()[-1])
    await end(shared_agent, over.process_id)
    assert not proc.is_alive(job)


async def test_what_is_printed_after_the_exit_lands_in_the_journal(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """The log of a server that a script has started is worth having."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    over = await run(shared_agent, f"cat {fifo} & exit 0")
    assert over.process.state == PROCESS_STATE_EXITED

    descriptor = os.open(fifo, os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, b"late\n")
    os.close(descriptor)

    await output_closed(shared_agent, over.process_id)
    late = await snapshot(shared_agent, over.process_id)
    assert late.data == b"late\n"
    assert late.process.output_bytes == 5
    again = await attach(shared_agent, over.process_id, cursor=over.cursor)
    assert again.data == b"late\n"


async def test_the_last_lines_of_a_process_substitution_come_before_the_end(shared_agent: RunningAgent) -> None:
    """bash does not wait for `> >(...)`: what it prints within a moment still belongs to the command."""
    # A pause of 20 ms without a fork, which on a loaded machine takes longer than a moment.
    slow = "exec 9<> <(:); while read -r line; do read -t 0.02 -u 9; echo got $line; done"
    for _ in range(5):
        over = await run(shared_agent, ["bash", "-c", f"exec > >({slow}); echo one; echo two; echo three; exit 6"])

        assert over.data == b"got one\ngot two\ngot three\n"
        assert over.exit.code == 6


async def test_a_descendant_that_never_stops_printing_delays_the_end_for_a_second_at_most(
    shared_agent: RunningAgent,
) -> None:
    """Not even one that prints faster than anybody can read."""
    over = await run(shared_agent, "yes & exit 5", when_full=WHEN_FULL_DROP_OLDEST, kept_bytes=MIB)

    assert over.exit.code == 5
    assert over.process.output_open
    await end(shared_agent, over.process_id)


async def test_all_that_was_printed_before_the_exit_comes_before_it(shared_agent: RunningAgent) -> None:
    """However much of it was still in the pipe when the command ended, and whoever holds the pipe."""
    noisy = " ".join(program("noise", 21, 300_000))
    over = await run(shared_agent, f"sleep 60 & {noisy}; exit 9")

    assert len(over.data) == 300_000
    assert over.exit.code == 9
    await end(shared_agent, over.process_id)


async def test_a_follower_is_told_the_end_once(shared_agent: RunningAgent) -> None:
    """With descendants left too: the stream is over with the command's end."""
    stream = shared_agent.processes.Run(RunRequest(start=to_start("sleep 60 & echo out")))
    over = await follow(stream)

    assert [message.HasField("exit") for message in over.messages].count(True) == 1
    assert over.has_ended
    assert (await stream.code()).name == "OK"
    await end(shared_agent, over.process_id)


async def test_output_in_two_sessions_stays_in_one_journal(shared_agent: RunningAgent) -> None:
    """What escapes keeps the pipe it was given."""
    async with started(shared_agent, "setsid sh -c 'echo inner' ; echo outer; sleep 60") as start:
        seen = await attach(shared_agent, start.process_id, until=printed(b"outer\n"))

    assert seen.data == b"inner\nouter\n"
    assert a_line(seen)
