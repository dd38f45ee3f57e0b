"""The deaths of worker, keeper and both: what goes on, what is known afterwards, and what is honestly not."""

import asyncio
import json
import os
import signal
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.agent.v1.process_pb2 import (
    ENDED_BY_ITSELF,
    PROCESS_STATE_RUNNING,
    PROCESS_STATE_UNKNOWN,
    UNKNOWN_END_AGENT_LOST,
    UNKNOWN_END_KEEPER_LOST,
)
from guyline.agent.v1.process_service_pb2 import SIGNAL_SCOPE_ALL, SignalRequest, StartRequest
from tests.agentd.keeper.lives import Tap, inherited_by_a_command, listed, logged, lose_agent, run, started
from tests.agentd.process.process_parts import refusal
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE
from tests.support.program import program
from tests.support.programs import noise


async def lose_keeper(agent: RunningAgent) -> None:
    await agent.kill_keeper()
    await agent.serves_again()


# The worker dies.


async def test_a_worker_that_dies_costs_no_byte_and_no_exit(agent: RunningAgent) -> None:
    """The promise of the whole design, at its plainest."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"before ")
            await reader.until(b"before ")
            await agent.kill_worker()
            tap.pour(b"after")
            tap.turn_off()

            assert (await reader.end()).code == 7
            assert reader.printed == b"before after"


async def test_a_command_that_ends_while_no_worker_lives_keeps_its_exit(agent: RunningAgent) -> None:
    """The keeper reaps and records alone; its next worker hears of it in the hand-over."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (process, reader):
            tap.pour(b"x")
            await reader.until(b"x")
            tap.turn_off()
            keeper_pid = agent.keeper_pid
            await agent.kill_worker()
            await proc.dead(process.pid)
            after = await agent.serves_again()

            exit_ = await reader.end()
            assert (exit_.code, exit_.ended_by) == (7, ENDED_BY_ITSELF)
            assert after.keeper_pid == keeper_pid


async def test_instance_and_store_stay_when_the_worker_goes(agent: RunningAgent) -> None:
    """A new instance id tells callers that processes were lost; here none was."""
    before = await agent.info.GetInfo(GetInfoRequest())
    await agent.kill_worker()
    after = await agent.serves_again()

    assert (after.instance_id, after.store_id) == (before.instance_id, before.store_id)
    assert after.started_at == before.started_at
    assert after.worker_started_at.ToNanoseconds() > before.worker_started_at.ToNanoseconds()


async def test_a_worker_that_dies_again_and_again_is_started_ever_later_and_said_so(agent: RunningAgent) -> None:
    """A worker that cannot live must not take a whole CPU, nor die in silence."""
    for _ in range(4):
        await agent.kill_worker()
        await agent.serves_again()

    log = await logged(agent, "worker died", times=4)
    lines = [json.loads(line) for line in log.splitlines() if "worker died" in line]
    assert [line["next_in_seconds"] for line in lines] == [0.0, 0.05, 0.1, 0.2]


async def test_no_descriptor_is_lost_or_won_over_the_lives_of_workers(agent: RunningAgent) -> None:
    """One that leaked at each death would end the agent after some thousand of them."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"x")
            await reader.until(b"x")
            await agent.kill_worker()
            await agent.serves_again()
            once = len(proc.descriptors(agent.keeper_pid))
            await agent.kill_worker()
            await agent.serves_again()

            assert len(proc.descriptors(agent.keeper_pid)) == once


# The keeper dies.


async def test_output_goes_on_byte_exact_when_the_keeper_dies(agent: RunningAgent) -> None:
    """The worker has every pipe too, and becomes the keeper in place."""
    total = 3_000_000
    async with started(agent, StartRequest(argv=program("noise", 3, total, "--chunk", 5000))) as (_, reader):
        await reader.until(next(noise.stream(3, total))[:1000])
        await lose_keeper(agent)
        await reader.end()

        assert bytes(reader.printed) == b"".join(noise.stream(3, total))


async def test_commands_outlive_a_keeper_whose_successor_finds_no_way_to_serve(agent: RunningAgent) -> None:
    """Settings that were good became bad meanwhile, and may become good again; an end would be that of all commands."""
    folder = agent.process.socket.parent
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            tap.pour(b"before ")
            await reader.until(b"before ")
            folder.chmod(0o777)
            await agent.kill_keeper()
            await logged(agent, "cannot serve with these settings", times=2)
            folder.chmod(0o700)
            await agent.serves_again()
            tap.pour(b"after")
            tap.turn_off()
            await reader.end()

            assert reader.printed == b"before after"


async def test_a_command_whose_keeper_died_runs_on_and_its_end_is_unknown(agent: RunningAgent) -> None:
    """Its exit status went to another parent: a code here would be invented."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (process, reader):
            tap.pour(b"before ")
            await reader.until(b"before ")
            await lose_keeper(agent)
            running = (await listed(agent))[process.process_id]
            tap.pour(b"after")
            tap.turn_off()
            exit_ = await reader.end()

            assert running.state == PROCESS_STATE_RUNNING
            assert exit_.WhichOneof("status") == "unknown"
            assert exit_.unknown == UNKNOWN_END_KEEPER_LOST
            assert reader.printed == b"before after"
            assert (await listed(agent))[process.process_id].state == PROCESS_STATE_UNKNOWN


async def test_a_command_that_ends_before_the_new_keeper_looks_is_unknown_too(agent: RunningAgent) -> None:
    """No watch can be put on what is gone; it must not be taken for running for ever."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (process, reader):
            tap.pour(b"x")
            await reader.until(b"x")
            os.kill(agent.worker_pid, signal.SIGSTOP)  # else it might look first
            os.kill(agent.keeper_pid, signal.SIGKILL)
            tap.turn_off()
            await proc.dead(process.pid)
            os.kill(agent.worker_pid, signal.SIGCONT)
            exit_ = await reader.end()

            assert exit_.unknown == UNKNOWN_END_KEEPER_LOST
            agent.process.keeper_was_replaced(agent.worker_pid)
            await agent.serves_again()


async def test_a_worker_without_a_descriptor_takes_the_keepers_place_once_it_has_one(agent: RunningAgent) -> None:
    """Else it would serve on without a keeper, and leave whoever asks for anything waiting for ever."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (process, reader):
            tap.pour(b"before ")
            await reader.until(b"before ")
            with proc.no_descriptor_left(agent.worker_pid):
                await agent.kill_keeper()
                await logged(agent, "the keeper's place cannot be taken now")
                request = SignalRequest(process_id=process.process_id, signal=signal.SIGTERM)
                refused = await refusal(agent.processes.Signal(request))
            await agent.serves_again()
            tap.pour(b"after")
            tap.turn_off()

            assert refused.reason == "KEEPER_LOST"
            assert (await reader.end()).unknown == UNKNOWN_END_KEEPER_LOST
            assert reader.printed == b"before after"


async def test_the_successor_of_a_keeper_is_a_new_instance_of_the_same_store(agent: RunningAgent) -> None:
    """So callers know that exits were lost, and that what had ended is still there."""
    ended = await run(agent, "sh", "-c", "echo kept; exit 3")
    before = await agent.info.GetInfo(GetInfoRequest())
    await agent.kill_keeper()
    after = await agent.serves_again()

    assert after.instance_id != before.instance_id
    assert after.store_id == before.store_id
    (process,) = (await listed(agent)).values()
    assert process.exit == ended.exit
    assert process.exit.code == 3


async def test_a_successor_starts_signals_and_reaps_as_a_keeper_does(agent: RunningAgent) -> None:
    """It must not be a lesser keeper than the first."""
    await lose_keeper(agent)
    ended = await run(agent, "sh", "-c", "echo new; exit 4")
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, reader):
        await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGKILL))
        exit_ = await reader.end()

    assert (ended.exit and ended.exit.code, bytes(ended.printed)) == (4, b"new\n")
    assert exit_.signal == signal.SIGKILL
    assert not [child for child in proc.children(agent.keeper_pid) if child.is_zombie]


async def test_a_command_of_a_lost_keeper_can_still_be_ended(agent: RunningAgent) -> None:
    """It is nobody's child here, but it is certain who it is: pid and start time match."""
    async with started(agent, StartRequest(argv=program("stubborn"))) as (process, reader):
        await reader.until(b"ready")
        await lose_keeper(agent)
        request = SignalRequest(process_id=process.process_id, signal=signal.SIGKILL)
        await agent.processes.Signal(request)
        exit_ = await reader.end()

    assert exit_.unknown == UNKNOWN_END_KEEPER_LOST
    assert not proc.is_alive(process.pid)


async def test_several_keepers_in_a_row_may_die(agent: RunningAgent) -> None:
    """Each worker is ready to be the next one, however many there were."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (_, reader):
            for life in (b"1", b"2", b"3"):
                tap.pour(life)
                await reader.until(life)
                await lose_keeper(agent)
            tap.turn_off()

            assert (await reader.end()).unknown == UNKNOWN_END_KEEPER_LOST
            assert reader.printed == b"123"


async def test_the_successor_holds_the_locks_and_nothing_that_it_should_not(agent: RunningAgent) -> None:
    """What gRPC had open in the worker must not stay open in a keeper that lives for months."""
    await lose_keeper(agent)
    held = proc.descriptors(agent.keeper_pid)

    locks = {str(agent.process.state_dir / "lock"), f"{agent.process.socket}.lock"}
    assert locks < set(held)
    assert sum(each.startswith("socket:") for each in held) == 1  # to its worker
    assert len([each for each in held if each != "/dev/null"]) <= 14
    assert await inherited_by_a_command(agent) == ["0", "1", "2"]


async def test_commands_of_a_lost_keeper_end_with_the_agent(agent: RunningAgent) -> None:
    """SIGTERM ends everything, also what the present keeper did not start; leaving the test asserts it."""
    async with started(agent, StartRequest(argv=["sleep", "60"])) as (process, _):
        await lose_keeper(agent)
        await agent.stop()

    assert not proc.is_alive(process.pid)


# Both die.


async def test_what_ran_when_all_of_the_agent_died_is_unknown_and_its_output_readable(agent: RunningAgent) -> None:
    """The records on disk are all that is left, and they say no more than they know."""
    with Tap(agent) as tap:
        async with started(agent, tap.request) as (process, reader):
            tap.pour(b"printed in time")
            await reader.until(b"in time")
            await lose_agent(agent)
            await agent.start_again()
            exit_ = await reader.end()

            assert exit_.unknown == UNKNOWN_END_AGENT_LOST
            assert reader.printed == b"printed in time"
            assert (await listed(agent))[process.process_id].state == PROCESS_STATE_UNKNOWN


async def test_what_outlived_the_agent_can_be_ended(agent: RunningAgent) -> None:
    """A build server left over from yesterday's agent should not need a shell to get rid of."""
    async with started(agent, StartRequest(argv=program("stubborn", "--child"))) as (process, reader):
        await reader.until(b"ready")
        await lose_agent(agent)
        await agent.start_again()
        kill = SignalRequest(process_id=process.process_id, signal=signal.SIGKILL, scope=SIGNAL_SCOPE_ALL)
        kill.wait.FromMilliseconds(int(DEADLINE * 1000))

        answer = await agent.processes.Signal(kill)

    assert not answer.survivors
    assert not proc.is_alive(process.pid)


async def test_a_number_that_is_anothers_by_now_is_left_alone() -> None:
    """After a reboot of a container the same pid is somebody else's: start time and pid must both match.

    With a cgroup of its own a command would be found by that, for certain.
    """
    async with (
        RunningAgent(settings={"process_cgroups": "off"}) as agent,
        started(agent, StartRequest(argv=["sleep", "60"])) as (process, _),
    ):
        await lose_agent(agent)
        records = agent.process.state_dir / "records.log"
        await asyncio.to_thread(_forge_start_time, records, process.process_id)
        await agent.start_again()

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent.processes.Signal(
                SignalRequest(process_id=process.process_id, signal=signal.SIGKILL, scope=SIGNAL_SCOPE_ALL)
            )
        was_alive = proc.is_alive(process.pid)
        os.kill(process.pid, signal.SIGKILL)

    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert was_alive


def _forge_start_time(records: Path, process_id: str) -> None:
    from guyline.agentd.keeper.records import RecordLog

    history = RecordLog.load(records)
    history.entries[process_id].start_ticks -= 1
    log = RecordLog(records, store_id=history.store_id)
    log.rewrite(history.entries.values())
    log.close()


async def test_a_command_that_outlives_the_agent_does_not_hold_its_locks(agent: RunningAgent) -> None:
    """Else nobody could start an agent there again while an orphan lives."""
    async with started(agent, StartRequest(argv=program("stubborn"))) as (process, reader):
        await reader.until(b"ready")
        assert not [each for each in proc.descriptors(process.pid) if each.endswith("lock")]
        await lose_agent(agent)
        await agent.start_again()

    assert proc.is_alive(process.pid)
    os.kill(process.pid, signal.SIGKILL)


# The agent is restarted in order.


async def test_what_had_ended_is_there_after_a_restart_of_the_agent(agent: RunningAgent) -> None:
    """Somebody restarts the agent at night, and asks in the morning what the build had said."""
    ended = await run(agent, "sh", "-c", "echo said; exit 5")
    before = await agent.info.GetInfo(GetInfoRequest())
    await agent.stop()
    await agent.start_again()
    after = await agent.info.GetInfo(GetInfoRequest())

    (process,) = (await listed(agent)).values()
    assert process.exit == ended.exit
    assert (after.store_id, after.instance_id != before.instance_id) == (before.store_id, True)
    async with started(agent, StartRequest(argv=["true"])) as (newer, _):
        assert newer.sequence > process.sequence


async def test_the_output_of_what_had_ended_is_there_after_a_restart_of_the_agent(agent: RunningAgent) -> None:
    """The exit without the output would be half an answer."""
    async with started(agent, StartRequest(argv=program("noise", 9, 300_000))) as (_, reader):
        await reader.end()
        await agent.stop()
        await agent.start_again()
        again = type(reader)(agent, next(iter(await listed(agent))))
        async with again:
            await again.end()

    assert bytes(again.printed) == b"".join(noise.stream(9, 300_000))


async def test_a_directory_among_the_journals_does_not_keep_a_worker_from_its_start(agent: RunningAgent) -> None:
    """A volume that is mounted right there has its ``lost+found``, and no process has that id."""
    await agent.stop()
    strange = agent.process.state_dir / "journals" / "lost+found"
    strange.mkdir()

    await agent.start_again()

    assert strange.is_dir()
    assert (await run(agent, "echo", "on")).printed == b"on\n"
