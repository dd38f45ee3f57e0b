"""The connection that all callers of a client share."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.agent_info_service_pb2 import GetInfoRequest
from guyline.client import AsyncAgent, Exited
from guyline.client.absence import Absence
from guyline.client.address import to_address
from guyline.client.connection import Connection
from guyline.client.credentials import Credentials
from guyline.client.errors import AgentUnreachable, GuylineError, Outcome, StoreChanged
from guyline.client.patience import Outage
from tests.client.scripted import ScriptedAgent, gives, lasts, process
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE, until
from tests.support.proxy import Link

LOST = AgentUnreachable("the connection failed")


class Watched(Outage):
    """Says when a caller has asked in vain; ``pause`` seconds then, or its own."""

    def __init__(self, *, pause: float | None = None) -> None:
        super().__init__(patience=2 * DEADLINE)
        self.asked_in_vain = asyncio.Event()
        self._pause = pause
        self._failures = 0

    def failed(self, now: float, *, retry_after: float | None = None, luck: float | None = None) -> float | None:
        """As an outage, but for the pause."""
        self._failures += 1
        if self._failures == 2:
            self.asked_in_vain.set()  # once for the break itself, once for the question whether anybody is there
        delay = super().failed(now, retry_after=retry_after, luck=luck)
        return delay if self._pause is None else self._pause


def to(agent: RunningAgent, *, on_absence: Callable[[bool], None] | None = None) -> Connection:
    return Connection(
        address=to_address(agent.address),
        credentials=Credentials(),
        metadata=(),
        patience=60,
        connect_timeout=DEADLINE,
        on_absence=on_absence,
    )


async def test_the_first_caller_that_finds_the_agent_back_wakes_the_others(agent: RunningAgent) -> None:
    """Of many callers of an agent that is only there for moments, some would otherwise always come too late."""
    connection = to(agent)
    eager, drowsy = Watched(), Watched(pause=3600)
    await connection.open()
    await agent.stop()

    async with asyncio.timeout(1.5 * DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(connection.restore(drowsy, LOST))
        group.create_task(connection.restore(eager, LOST))
        await eager.asked_in_vain.wait()
        await agent.start_again()
    await connection.close()

    assert not drowsy.asked_in_vain.is_set(), "it was woken, and asked with success"


async def test_a_long_absence_is_told_once_and_so_is_its_end(agent: RunningAgent) -> None:
    """However many wait for the agent."""
    told: list[bool] = []
    was_told = asyncio.Event()

    def tell(is_away: bool) -> None:
        told.append(is_away)
        was_told.set()

    connection = to(agent, on_absence=tell)
    await connection.open()
    await agent.stop()
    async with asyncio.timeout(2 * DEADLINE), asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(connection.restore(Outage(60), LOST))
        await was_told.wait()
        assert told == [True]
        await agent.start_again()
    await connection.close()

    assert told == [True, False]


async def test_a_restarted_worker_is_no_absence(agent: RunningAgent) -> None:
    """It is back before anybody would wonder."""
    told: list[bool] = []
    connection = to(agent, on_absence=told.append)
    connection._absence = Absence(told.append, after=DEADLINE)  # a machine with much to do may take its time
    await connection.open()
    await agent.kill_worker()
    await connection.restore(Outage(60), LOST)
    await connection.close()

    assert told == []


async def test_nothing_is_told_to_who_waits_no_more() -> None:
    """Whoever gave up knows that the agent is away."""
    told: list[bool] = []
    absence = Absence(told.append, after=0.01)
    with absence.waited_out():
        pass
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, later.set)  # timers fire in their order: the other would be first
    await later.wait()

    assert told == []


async def test_another_agent_is_given_no_new_call_either(
    shared_agent: RunningAgent, agent: RunningAgent, tmp_path: Path
) -> None:
    """gRPC dials again by itself: a start that is repeated with its key would run a second time. Entering the client
    anew means whoever is there.
    """
    witness = tmp_path / "witness"
    async with Link(shared_agent.process.socket) as link:
        async with AsyncAgent(link.address, patience=DEADLINE) as client:
            link.lead_to(agent.process.socket)
            link.cut()
            with pytest.raises(StoreChanged):
                await client.run(["touch", str(witness)])
            with pytest.raises(StoreChanged) as again:
                await client.info()
            assert again.value.outcome is Outcome.NOT_STARTED
        async with client:
            assert (await client.run(["test", "-e", str(witness)])).exit.code == 1
            assert (await client.info()).store_id == again.value.facts["store_id"]


async def test_leaving_in_an_outage_ends_what_waits_for_the_agent(agent: RunningAgent, tmp_path: Path) -> None:
    """A command must not be started behind the back of a program that has left."""
    async with AsyncAgent(agent.address) as client:
        await agent.stop()
        starting = asyncio.create_task(client.run(["touch", str(tmp_path / "witness")]))
        await until(lambda: bool(client._connection._absence._waiting))

    with pytest.raises(GuylineError, match="closed by this program"):
        await starting
    with pytest.raises(GuylineError, match="closed by this program"):
        await client.info()


async def test_leaving_ends_what_waits_on_a_connection_that_was_given_up(scripted: ScriptedAgent) -> None:
    """A stream had taken it for dead; the call that waits on it beside had not, and nobody closed it any more."""
    never = asyncio.Event()
    quiet = lasts(pb.AttachResponse(process=process()), until=never)
    scripted.plays(gives(pb.StartResponse(process=process())), lasts(until=never), quiet, quiet)
    async with AsyncAgent(scripted.address, keepalive=0.1) as client:
        handle = await client.start(["make"])
        waiting = asyncio.create_task(handle.wait_for(Exited()))
        await until(lambda: len(scripted.calls) == 2)
        streaming = asyncio.create_task(handle.wait())
        await until(lambda: len(scripted.calls) == 4)

    for work in (waiting, streaming):
        with pytest.raises(GuylineError, match="closed by this program"):
            await asyncio.wait_for(work, DEADLINE)


async def test_a_signal_waits_for_the_agent_where_it_cannot_be_sent(agent: RunningAgent) -> None:
    """Nothing has happened yet, so it does no harm to try again: a supervisor sends its signal once."""
    async with AsyncAgent(agent.address, patience=2 * DEADLINE) as client:
        process = await client.start(["sleep", "60"])
        os.kill(agent.keeper_pid, signal.SIGSTOP)  # so that nobody replaces the worker
        try:
            await agent.kill_worker()
            await until(lambda: not _is_connected(client))
            signalling = asyncio.create_task(process.signal(signal.SIGTERM))
            await until(lambda: bool(client._connection._absence._waiting))
        finally:
            os.kill(agent.keeper_pid, signal.SIGCONT)
        await signalling

        assert (await process.wait()).signal == signal.SIGTERM


async def test_a_signal_that_could_not_be_sent_was_not(agent: RunningAgent) -> None:
    """Whoever gives up knows that nothing happened."""
    async with AsyncAgent(agent.address, patience=0) as client:
        process = await client.start(["sleep", "60"])
        await agent.stop()
        await until(lambda: not _is_connected(client))

        with pytest.raises(AgentUnreachable) as unsent:
            await process.signal(signal.SIGTERM)

    assert unsent.value.outcome is Outcome.NOT_STARTED


def _is_connected(client: AsyncAgent) -> bool:
    line = client._connection._line
    return line is not None and line.channel.get_state() is grpc.ChannelConnectivity.READY


async def test_an_agent_that_hangs_is_waited_for_no_longer_than_was_asked(agent: RunningAgent) -> None:
    """Its socket takes the connection, and nobody says anything: that is no reason to wait for half a minute."""
    os.kill(agent.worker_pid, signal.SIGSTOP)
    try:
        with pytest.raises(AgentUnreachable, match="it does not answer"):
            async with asyncio.timeout(DEADLINE), AsyncAgent(agent.address, connect_timeout=0):
                pass
    finally:
        os.kill(agent.worker_pid, signal.SIGCONT)


async def test_no_line_is_dialled_for_a_connection_that_is_closed(agent: RunningAgent) -> None:
    """Nobody would hang up."""
    connection = to(agent)
    await connection.open()
    async with connection.line() as line:
        connection.drop(line)
    asking = asyncio.create_task(connection.ask_once(lambda line: line.info.GetInfo, GetInfoRequest()))
    await asyncio.sleep(0)  # it looks at the disk now, in a thread
    await connection.close()

    with pytest.raises(GuylineError, match="closed by this program"):
        await asking
    assert connection._line is None
