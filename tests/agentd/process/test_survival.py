"""What outlives the worker, and the keeper, besides the processes themselves."""

import json
import os
import signal
from pathlib import Path

import pytest

from guyline.agent.v1.process_pb2 import OUTPUT_MODE_SEPARATE, OUTPUT_STREAM_STDERR, UNKNOWN_END_KEEPER_LOST, Process
from guyline.agent.v1.process_service_pb2 import SignalRequest
from guyline.agentd.keeper.records import to_line
from guyline.agentd.keeper.table import Entry
from tests.agentd.keeper.lives import listed
from tests.agentd.process.process_parts import attach, new_key, printed, run, seconds, started, to_start
from tests.agentd.process.simulated import simulated
from tests.support import proc
from tests.support.agent import RunningAgent
from tests.support.clock import until
from tests.support.program import program


async def stubborn(agent: RunningAgent) -> Process:
    """A process that ignores INT and TERM, once it does."""
    start = await agent.processes.Start(to_start(program("stubborn")))
    await attach(agent, start.process_id, until=lambda seen: bool(seen.data))
    return start.process


async def test_a_ladder_goes_on_when_the_worker_dies(agent: RunningAgent) -> None:
    """Who asked for an end within a time gets it, whatever becomes of the agent meanwhile."""
    process = await stubborn(agent)
    await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGINT, grace=seconds(0.5)))
    await agent.kill_worker()
    await agent.serves_again()

    over = await attach(agent, process.process_id)

    assert over.exit.signal == signal.SIGKILL


async def test_a_ladder_goes_on_when_the_keeper_dies(agent: RunningAgent) -> None:
    """The worker takes the keeper's place, and its own successor takes the ladder up."""
    process = await stubborn(agent)
    await agent.processes.Signal(SignalRequest(process_id=process.process_id, signal=signal.SIGINT, grace=seconds(0.5)))
    await agent.kill_keeper()
    await agent.serves_again()

    over = await attach(agent, process.process_id)

    assert over.exit.unknown == UNKNOWN_END_KEEPER_LOST
    assert not proc.is_alive(process.pid)


@pytest.mark.parametrize("death", ["worker", "keeper"])
async def test_a_key_is_known_after_a_death(agent: RunningAgent, death: str) -> None:
    """A start whose answer was lost together with the agent's better half is repeated safely."""
    key = new_key()
    over = await run(agent, "echo once; exit 5", key=key)
    await (agent.kill_worker() if death == "worker" else agent.kill_keeper())
    await agent.serves_again()

    again = await agent.processes.Start(to_start("echo once; exit 5", key=key))

    assert (again.attached, again.process_id) == (True, over.process_id)
    assert again.process.exit.code == 5


@pytest.mark.parametrize("death", ["worker", "keeper"])
async def test_one_of_two_streams_goes_on_after_a_death_when_the_other_has_ended(
    agent: RunningAgent, tmp_path: Path, death: str
) -> None:
    """The number under which the ended one was held is free, and anybody's by then."""
    go_on = tmp_path / "go on"
    os.mkfifo(go_on)
    held_before = len(proc.descriptors(agent.keeper_pid))
    command = f"exec >&-; echo before >&2; read x < '{go_on}'; echo after >&2"
    async with started(agent, command, output_mode=OUTPUT_MODE_SEPARATE) as start:
        await attach(agent, start.process_id, until=printed(b"before"))
        await until(lambda: len(proc.descriptors(agent.keeper_pid)) == held_before + 1)
        await (agent.kill_worker() if death == "worker" else agent.kill_keeper())
        await agent.serves_again()

        go_on.write_text("x\n")
        over = await attach(agent, start.process_id)

    assert over.of_stream(OUTPUT_STREAM_STDERR) == over.data == b"before\nafter\n"


@pytest.mark.parametrize(("info", "note"), [("no origin", ""), (None, "no note")])
async def test_one_record_that_cannot_be_read_costs_nobody_else_anything(
    agent: RunningAgent, info: str | None, note: str
) -> None:
    """The agent serves, the others' ends and outputs are there, and what the record is about is logged."""
    over = await run(agent, "echo out; exit 5")
    await agent.stop()
    with (agent.process.state_dir / "records.log").open("ab+") as records:
        records.seek(0)
        good = next(line for line in records if over.process_id.encode() in line)
        damaged = Entry("damaged", _info_of(good) if info is None else info)
        damaged.note, damaged.pid = note, 1
        records.write(to_line("entry", damaged.to_json()))
    await agent.start_again()

    again = await attach(agent, over.process_id)

    assert (again.data, again.exit.code) == (b"out\n", 5)
    assert list(await listed(agent)) == [over.process_id]
    assert "cannot be taken up" in agent.process.log()


def _info_of(line: bytes) -> str:
    """What the worker wrote into a start's record, for another process."""
    info = json.loads(json.loads(line.partition(b" ")[2])[3])
    return json.dumps(info | {"process_id": "damaged"})


async def test_what_is_held_as_a_pipe_and_is_none_costs_its_process_alone_its_output(tmp_path: Path) -> None:
    """It cannot be waited for; nor must it keep a worker from serving everybody else."""
    async with simulated(tmp_path) as world:
        process = await world.start()
        world.close()
        entry = world.keeper.entries[process.process_id]
        entry.kept = {"stdout": os.memfd_create("no pipe")}
        world.open()

        again = world.processes.find(process.process_id)

        assert again
        assert (again.is_running, again.output.is_open, entry.kept) == (True, False, {})
        world.keeper.end(process.process_id)
        assert (await again.wait()).code == 0
