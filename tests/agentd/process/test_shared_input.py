"""Several who write to one input: nobody's bytes are mixed with another's, or taken for them."""

import asyncio
import os
from typing import Any

import grpc
import pytest

from guyline.agent.v1.process_pb2 import INPUT_MODE_PIPE
from guyline.agent.v1.process_service_pb2 import CloseInputRequest
from guyline.agentd.process.streams.input import COMPARABLE_BYTES
from tests.agentd.process.process_parts import MIB, attach, refusal, seconds, started, write_input
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


async def test_writers_without_an_offset_do_not_mix_their_bytes(shared_agent: RunningAgent) -> None:
    """Several may share an input: each write is taken whole, in the order in which they came."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        lines = [b"%d" % number * 20_000 + b"\n" for number in range(10)]
        await asyncio.gather(*(write_input(shared_agent, cat.process_id, line) for line in lines))
        await shared_agent.processes.CloseInput(CloseInputRequest(process_id=cat.process_id))
        over = await attach(shared_agent, cat.process_id)

    assert sorted(over.data.splitlines(keepends=True)) == lines


async def test_two_writers_at_one_offset_cannot_lose_each_other_s_bytes(shared_agent: RunningAgent) -> None:
    """What is passed over must be the same; else the second one is told where to go on."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        await write_input(shared_agent, cat.process_id, b"first ", offset=0)
        refused = await refusal(write_input(shared_agent, cat.process_id, b"second", offset=0))
        await write_input(shared_agent, cat.process_id, b"second", offset=int(refused.facts["next_offset"]), eof=True)
        over = await attach(shared_agent, cat.process_id)

    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "INPUT_CONFLICT")
    assert over.data == b"first second"


async def test_what_is_written_for_the_first_time_is_never_there_already(shared_agent: RunningAgent) -> None:
    """Though it looks the same: two people have answered yes."""
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        await write_input(shared_agent, cat.process_id, b"yes", offset=0, first_try=True)
        refused = await refusal(write_input(shared_agent, cat.process_id, b"yes", offset=0, first_try=True))
        repeated = await write_input(shared_agent, cat.process_id, b"yes", offset=0)
        differing = await refusal(write_input(shared_agent, cat.process_id, b"yeah", offset=0))
        await write_input(shared_agent, cat.process_id, b"yes", offset=3, first_try=True, eof=True)
        over = await attach(shared_agent, cat.process_id)

    assert [(each.reason, each.facts["offset"], each.facts["next_offset"]) for each in (refused, differing)] == [
        ("INPUT_CONFLICT", "0", "3"),
        ("INPUT_CONFLICT", "2", "3"),
    ]
    assert repeated.next_offset == 3
    assert over.data == b"yesyes"


@pytest.mark.parametrize("fields", [{"offset": 0}, {"offset": 0, "eof": True}, {"offset": 0, "first_try": True}])
async def test_who_only_waited_for_another_writer_hears_that_nothing_was_accepted(
    shared_agent: RunningAgent, fields: dict[str, Any]
) -> None:
    """That one has got on meanwhile, and the input with it: that is no answer to who waits behind."""
    async with started(shared_agent, ["sleep", "60"], input=INPUT_MODE_PIPE) as sleeper:
        much = asyncio.ensure_future(write_input(shared_agent, sleeper.process_id, bytes(MIB), offset=0))
        stuck = asyncio.ensure_future(
            write_input(shared_agent, sleeper.process_id, bytes(MIB), offset=MIB, wait=seconds(DEADLINE))
        )
        await much
        refused = await refusal(write_input(shared_agent, sleeper.process_id, b"keys", wait=seconds(0.2), **fields))
        stuck.cancel()

    assert refused.reason == "INPUT_FULL"


async def test_what_was_read_a_while_ago_can_be_compared(shared_agent: RunningAgent) -> None:
    """Whoever lost the answer to a write asks whether what is there now is from him, or from another writer."""
    data = os.urandom(3 * COMPARABLE_BYTES)
    async with started(shared_agent, ["cat"], input=INPUT_MODE_PIPE) as cat:
        at = 0
        while at < len(data):  # in pieces, so that memory is given back meanwhile
            piece = data[at : at + 64 * 1024]
            at = (await write_input(shared_agent, cat.process_id, piece, offset=at, first_try=True)).next_offset
        await attach(shared_agent, cat.process_id, until=lambda seen: len(seen.data) == len(data))
        last = len(data) - 1000
        same = await write_input(shared_agent, cat.process_id, data[last:], offset=last, compare=True)
        changed = data[last:-1] + bytes([data[-1] ^ 1])
        other = await refusal(write_input(shared_agent, cat.process_id, changed, offset=last, compare=True))
        beyond = await refusal(write_input(shared_agent, cat.process_id, data[last:] + b"x", offset=last, compare=True))
        gone = await refusal(write_input(shared_agent, cat.process_id, data[:1000], offset=0, compare=True))

    assert same.next_offset == len(data)
    assert other.facts["offset"] == str(len(data) - 1)
    assert [(each.reason, "offset" in each.facts) for each in (beyond, gone)] == [("INPUT_CONFLICT", False)] * 2
