"""The same stories, told by two clients that are generated from the same protos: other languages' are, too."""

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
from grpclib.client import Channel

from guyline_betterproto.guyline.agent.v1 import ProcessServiceListRequest, ProcessServiceStub
from tests.interop.clients import Client, Refused, client_of
from tests.support.agent import RunningAgent


@pytest.fixture(params=["google", "betterproto"])
async def client(shared_agent: RunningAgent, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """Each of the two in turn."""
    async with client_of(request.param, shared_agent) as connected:
        yield connected


async def test_run_streams_the_output_and_then_the_exit(client: Client) -> None:
    """The whole of a command's life in one call."""
    heard = [each async for each in client.run(["sh", "-c", "printf 'a\\0b'; exit 3"])]

    assert b"".join(each.data for each in heard) == b"a\0b"
    assert heard[0].process_id
    assert [each.code for each in heard if each.code is not None] == [heard[-1].code] == [3]


async def test_a_reader_goes_on_at_its_cursor(client: Client) -> None:
    """Nothing is lost, nothing comes twice."""
    process_id = await client.start(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.02; done; exit 7"])
    first = await anext(each async for each in client.attach(process_id) if each.data)
    rest = [each async for each in client.attach(process_id, cursor=first.cursor)]

    assert first.data + b"".join(each.data for each in rest) == b"1\n2\n3\n"
    assert rest[-1].code == 7


async def test_an_exit_of_zero_is_an_exit(client: Client) -> None:
    """Zero is a value on this wire, and not the lack of one."""
    heard = [each async for each in client.run(["true"])]

    assert heard[-1].code == 0


async def test_input_is_written_by_offset(client: Client) -> None:
    """A repeated piece is passed over, and the end closes it."""
    process_id = await client.start(["cat"], pipe=True)
    offsets = [
        await client.write(process_id, b"one ", offset=0),
        await client.write(process_id, b"one two", offset=0),
        await client.write(process_id, b"!", offset=7, eof=True),
    ]
    heard = [each async for each in client.attach(process_id)]

    assert offsets == [4, 7, 8]
    assert b"".join(each.data for each in heard) == b"one two!"


async def test_input_is_streamed(client: Client) -> None:
    """Much of it, in one call; its end says nothing, its `eof` does."""
    data = bytes(range(256)) * 4000
    process_id = await client.start(["sha256sum"], pipe=True)
    half = await client.stream(process_id, [data[:300_000], data[300_000:500_000]], eof=False)
    whole = await client.stream(process_id, [data[at : at + 100_000] for at in range(0, len(data), 100_000)], eof=True)
    heard = [each async for each in client.attach(process_id)]

    assert (half, whole) == (500_000, len(data))
    assert b"".join(each.data for each in heard).split()[0].decode() == sha256(data).hexdigest()


async def test_a_refusal_has_a_code_a_reason_and_a_text(client: Client) -> None:
    """Of a start, of a stream, and of a write."""
    with pytest.raises(Refused) as not_runnable:
        await client.start(["/no/such/program"])
    with pytest.raises(Refused) as not_found:
        [each async for each in client.attach("00000000-0000-4000-8000-000000000000")]
    process_id = await client.start(["true"])
    with pytest.raises(Refused) as no_input:
        await client.write(process_id, b"x", offset=0)

    assert (not_runnable.value.code, not_runnable.value.reason) == ("FAILED_PRECONDITION", "COMMAND_NOT_RUNNABLE")
    assert "/no/such/program" in not_runnable.value.text
    assert (not_found.value.code, not_found.value.reason) == ("NOT_FOUND", "PROCESS_NOT_FOUND")
    assert (no_input.value.code, no_input.value.reason) == ("FAILED_PRECONDITION", "NO_INPUT")


async def test_messages_within_messages_come_through(shared_agent: RunningAgent, client: Client) -> None:
    """Enums, times and maps as well."""
    heard = [each async for each in client.run(["sh", "-c", "true # listed"])]
    async with Channel(path=str(shared_agent.process.socket)) as channel:
        listed = await ProcessServiceStub(channel).list(ProcessServiceListRequest(max_ended=50))

    found = {process.process_id: process for process in listed.processes}[heard[0].process_id]
    assert found.argv == ["sh", "-c", "true # listed"]
    assert found.started_at is not None
