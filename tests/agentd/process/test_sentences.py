"""Who ended what, and who must not: limits, callers and workers' deaths in each other's way."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from guyline.agent.v1.process_pb2 import (
    ENDED_BY_CALLER,
    ENDED_BY_ITSELF,
    ENDED_BY_TIME_LIMIT,
    OUTPUT_MODE_SEPARATE,
    PROCESS_STATE_RUNNING,
    TIME_LIMIT_IDLE_TIMEOUT,
    TIME_LIMIT_TIMEOUT,
    TIME_LIMIT_UNSPECIFIED,
    TimeLimits,
)
from guyline.agent.v1.process_service_pb2 import (
    ProcessServiceCancelRequest,
    ProcessServiceRemoveRequest,
    SignalRequest,
    Terminal,
)
from guyline.agentd.keeper import table
from guyline.agentd.process.exit import EndedBy, Exit, TimeLimit
from tests.agentd.process.process_parts import (
    a_line,
    attach,
    end,
    ended,
    printed,
    run,
    seconds,
    snapshot,
    started,
    to_start,
)
from tests.support import faulty_agent, proc
from tests.support.agent import AgentProcess, RunningAgent
from tests.support.clock import DEADLINE, MS, moment, until


@pytest.mark.parametrize(
    "fields", [{}, {"output_mode": OUTPUT_MODE_SEPARATE}, {"terminal": Terminal()}], ids=["merged", "apart", "terminal"]
)
async def test_no_limit_strikes_what_a_command_that_ended_in_time_left_behind(
    agent: RunningAgent, fields: dict[str, Any]
) -> None:
    """A new worker took the command for one that runs, as long as its output was open, and killed the daemon."""
    limits = TimeLimits(timeout=seconds(300 * MS), idle_timeout=seconds(300 * MS), grace=seconds(0))
    over = await run(agent, "trap '' HUP; sleep 1000 & echo $!", time_limits=limits, **fields)
    daemon = int(over.data)
    await moment(400 * MS)  # both limits are over
    await agent.kill_worker()
    await agent.serves_again()

    seen = await snapshot(agent, over.process_id)
    lives = proc.is_alive(daemon)
    await end(agent, over.process_id)

    assert (seen.process.struck, lives) == (TIME_LIMIT_UNSPECIFIED, True)
    assert over.exit.ended_by == ENDED_BY_ITSELF


async def test_what_is_printed_while_there_is_no_worker_is_no_silence(agent: RunningAgent) -> None:
    """It waits in the pipe, and was looked at only after the limit."""
    limits = TimeLimits(idle_timeout=seconds(1))
    async with started(agent, "while :; do echo x; sleep 0.05; done", time_limits=limits) as start:
        await attach(agent, start.process_id, until=printed(b"x"))
        os.kill(agent.worker_pid, signal.SIGSTOP)
        await moment(1.2)
        await agent.kill_worker()
        await agent.serves_again()

        seen = await snapshot(agent, start.process_id)

    assert (seen.process.state, seen.process.struck) == (PROCESS_STATE_RUNNING, TIME_LIMIT_UNSPECIFIED)


async def test_a_limit_strikes_though_somebody_else_is_ending_the_command_more_slowly(tmp_path: Path) -> None:
    """The worker died between the limit and its signal; that one's ladder was taken for the limit's."""
    armed = tmp_path / "armed"
    process = AgentProcess(program=(faulty_agent.__file__,), environment={faulty_agent.VARIABLE: str(armed)})
    armed.write_text("limit.noted")
    async with RunningAgent(process=process, owns_process=True) as agent:
        limits = TimeLimits(timeout=seconds(1), grace=seconds(0))
        stubborn = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done"
        start = await agent.processes.Start(to_start(stubborn, time_limits=limits))
        await attach(agent, start.process_id, until=printed(b"ready"))
        await agent.processes.Signal(
            SignalRequest(process_id=start.process_id, signal=signal.SIGINT, grace=seconds(600))
        )
        await until(lambda: not armed.exists())
        await agent.serves_again()
        over = await ended(agent, start.process_id)

    assert (over.exit.signal, over.struck) == (signal.SIGKILL, TIME_LIMIT_TIMEOUT)


async def test_what_a_limit_began_to_end_is_killed_though_the_worker_died_at_its_first_signal(tmp_path: Path) -> None:
    """The next worker knew of the limit and not of its ladder, and who ignored SIGTERM lived on."""
    armed = tmp_path / "armed"
    process = AgentProcess(program=(faulty_agent.__file__,), environment={faulty_agent.VARIABLE: str(armed)})
    armed.write_text("ladder.signalled")
    async with RunningAgent(process=process, owns_process=True) as agent:
        limits = TimeLimits(timeout=seconds(500 * MS), grace=seconds(100 * MS))
        job = "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & echo $!; wait"
        start = await agent.processes.Start(to_start(job, time_limits=limits))
        pid = int((await attach(agent, start.process_id, until=a_line)).data)
        await until(lambda: not armed.exists())
        await agent.serves_again()
        await until(partial(_is_gone, pid))
        over = await ended(agent, start.process_id)

    assert (over.exit.ended_by, over.struck) == (ENDED_BY_TIME_LIMIT, TIME_LIMIT_TIMEOUT)


async def test_no_new_worker_repeats_what_a_limit_has_begun(agent: RunningAgent) -> None:
    """A faster cancel had taken the place of its ladder; then each worker sent one more SIGTERM."""
    limits = TimeLimits(timeout=seconds(1), grace=seconds(600))
    command = "trap 'echo term' TERM; echo ready; while :; do sleep 0.02; done"
    async with started(agent, command, time_limits=limits) as start:
        await attach(agent, start.process_id, until=printed(b"term"))
        await agent.processes.Cancel(ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(300)))
        await attach(agent, start.process_id, until=lambda followed: followed.data.count(b"term") == 2)
        await agent.kill_worker()
        await agent.serves_again()
        await agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=signal.SIGKILL))
        over = await attach(agent, start.process_id)

    assert over.data.count(b"term") == 2


async def test_a_limit_adds_nothing_to_a_cancel_that_kills_sooner(shared_agent: RunningAgent) -> None:
    """Many programs take a second SIGTERM for impatience."""
    limits = TimeLimits(idle_timeout=seconds(500 * MS), grace=seconds(600))
    command = "trap 'echo term; quiet=true' TERM; echo ready; while :; do ${quiet:-echo .}; sleep 0.02; done"
    async with started(shared_agent, command, time_limits=limits) as start:
        await attach(shared_agent, start.process_id, until=printed(b"ready"))
        cancel = ProcessServiceCancelRequest(process_id=start.process_id, grace=seconds(1.5))
        await shared_agent.processes.Cancel(cancel)
        over = await attach(shared_agent, start.process_id)

    assert over.data.count(b"term") == 1
    assert (over.exit.ended_by, over.process.struck) == (ENDED_BY_CALLER, TIME_LIMIT_IDLE_TIMEOUT)


async def test_who_removes_a_process_takes_no_ladder_away_that_is_about_to_begin(agent: RunningAgent) -> None:
    """Cancel failed for a defect, and who ignores SIGTERM lived on where nobody could reach it."""
    for delay in (0.0, 0.5 * MS, 1 * MS, 1.5 * MS) * 4:
        over = await run(agent, "(trap '' TERM; exec sleep 1000) >/dev/null 2>&1 & echo $!; sleep 0.01")
        cancel = ProcessServiceCancelRequest(process_id=over.process_id, grace=seconds(50 * MS))
        canceling = asyncio.ensure_future(agent.processes.Cancel(cancel))
        await moment(delay)
        await agent.processes.Remove(ProcessServiceRemoveRequest(process_id=over.process_id))
        await canceling
        await until(partial(_is_gone, int(over.data)))


def _is_gone(pid: int) -> bool:
    return not proc.is_alive(pid)


@pytest.mark.parametrize(
    ("command", "signals", "ended_by"),
    [
        ("exec sleep 1000", [signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT], ENDED_BY_CALLER),
        ("trap 'sleep 0.3; exit 3' TERM; sleep 1000 & wait", [signal.SIGTERM, signal.SIGWINCH], ENDED_BY_CALLER),
        ("exec sleep 1000", [signal.SIGWINCH, signal.SIGUSR1], ENDED_BY_CALLER),
        ("trap '' HUP; sleep 0.2; exit 3", [signal.SIGWINCH], ENDED_BY_ITSELF),
    ],
)
async def test_a_signal_that_ends_nothing_hides_none_that_does(
    shared_agent: RunningAgent, command: str, signals: list[signal.Signals], ended_by: int
) -> None:
    """A new size of the terminal comes whenever it likes."""
    async with started(shared_agent, f"echo ready; {command}") as start:
        await attach(shared_agent, start.process_id, until=printed(b"ready"))
        for number in signals:
            await shared_agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=number))
        over = await ended(shared_agent, start.process_id)

    assert over.exit.ended_by == ended_by


async def test_a_limit_is_named_whatever_else_is_sent_meanwhile(shared_agent: RunningAgent) -> None:
    """The command cleans up, and exits as it likes."""
    limits = TimeLimits(timeout=seconds(500 * MS), grace=seconds(DEADLINE))
    command = "trap 'echo cleaning; sleep 0.3; exit 3' TERM; sleep 1000 & wait"
    async with started(shared_agent, command, time_limits=limits) as start:
        await attach(shared_agent, start.process_id, until=printed(b"cleaning"))
        await shared_agent.processes.Signal(SignalRequest(process_id=start.process_id, signal=signal.SIGWINCH))
        over = await ended(shared_agent, start.process_id)

    assert (over.exit.code, over.exit.ended_by, over.exit.time_limit) == (3, ENDED_BY_TIME_LIMIT, TIME_LIMIT_TIMEOUT)


@pytest.mark.parametrize(
    ("cause", "after", "ended_by"),
    [
        ("timeout", 500.0, (EndedBy.TIME_LIMIT, TimeLimit.TIMEOUT)),
        ("caller", 9.0, (EndedBy.CALLER, None)),
        ("caller", 500.0, (EndedBy.ITSELF, None)),
    ],
)
def test_what_a_limit_has_begun_to_end_has_all_of_its_grace_for_that(
    cause: str, after: float, ended_by: tuple[EndedBy, TimeLimit | None]
) -> None:
    """A caller's signal may have been for something else; a limit's is a sentence."""
    asked = table.Asked(signal.SIGTERM, cause, 1000.0)

    exit_ = Exit.of(table.Exit(ended_at=1000.0 + after, code=0, asked=asked))

    assert (exit_.ended_by, exit_.time_limit) == ended_by
