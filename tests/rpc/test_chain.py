"""Calls with a client's stream, which no service of ours has yet but which the chain wraps all the same."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from guyline.access.v1 import access_pb2
from guyline.errors import InvalidInput, Violation
from guyline.rpc.caller import Context, caller_of
from tests.rpc.serving import Log, Puppet, Served, details, serving

SERVICE = "tests.rpc.upload.Upload"


def declare() -> None:
    """Puts a service with both kinds of client stream into the pool, once."""
    try:
        Default().FindServiceByName(SERVICE)
    except KeyError:
        file = FileDescriptorProto(name="tests/rpc/upload.proto", package="tests.rpc.upload", syntax="proto3")
        file.message_type.add(name="Piece").field.add(name="data", number=1, type=12, label=1)
        service = file.service.add(name="Upload")
        for name, responses in (("Put", False), ("Echo", True)):
            method = service.method.add(name=name, client_streaming=True, server_streaming=responses)
            method.input_type = method.output_type = ".tests.rpc.upload.Piece"
            method.options.Extensions[access_pb2.needs] = access_pb2.RIGHT_WRITE
        Default().Add(file)


declare()
Piece: Any = GetMessageClass(Default().FindMessageTypeByName("tests.rpc.upload.Piece"))


class Upload:
    """Counts and echoes."""

    async def put(self, requests: AsyncIterator[Any], context: Context) -> Any:
        assert caller_of(context).name == "owner"
        size = 0
        async for piece in requests:
            size += len(piece.data)
        return Piece(data=b"%d" % size)

    async def echo(self, requests: AsyncIterator[Any], _context: Context) -> AsyncIterator[Any]:
        async for piece in requests:
            if not piece.data:
                raise InvalidInput(Violation("data", "is empty"))
            yield piece


def add_upload(servicer: Upload, server: grpc.aio.Server) -> None:
    """As generated code would."""
    handlers = {
        "Put": grpc.stream_unary_rpc_method_handler(servicer.put, Piece.FromString, Piece.SerializeToString),
        "Echo": grpc.stream_stream_rpc_method_handler(servicer.echo, Piece.FromString, Piece.SerializeToString),
    }
    server.add_registered_method_handlers(SERVICE, handlers)


async def pieces(*contents: bytes) -> AsyncIterator[bytes]:
    for each in contents:
        yield Piece(data=each).SerializeToString()


def uploading(served: Served) -> Served:
    served.server.add(add_upload, Upload())
    return served


async def test_a_clients_stream_is_read_and_counted(log: Log) -> None:
    """Uploads."""
    async with serving() as served:
        uploading(served)
        put: Any = served.channel.stream_unary(f"/{SERVICE}/Put", None, Piece.FromString)
        answer = await put(pieces(b"12", b"345"))
        line = await log.find("call ended")

    assert answer.data == b"5"
    assert (line["messages_in"], line["messages_out"]) == (2, 1)


async def test_both_ways_at_once(log: Log) -> None:
    """Byte pipes."""
    async with serving() as served:
        uploading(served)
        echo: Any = served.channel.stream_stream(f"/{SERVICE}/Echo", None, Piece.FromString)
        answers = [each.data async for each in echo(pieces(b"1", b"2"))]
        line = await log.find("call ended")

    assert answers == [b"1", b"2"]
    assert (line["messages_in"], line["messages_out"], line["code"]) == (2, 2, "OK")


@pytest.mark.parametrize("content", [Piece().SerializeToString(), b"\xff\xff"])
async def test_a_wrong_piece_ends_the_stream_with_invalid_input(content: bytes) -> None:
    """Whether it is the domain that refuses it or the parser."""

    async def wrong() -> AsyncIterator[bytes]:
        yield content

    async with serving(Puppet()) as served:
        uploading(served)
        echo: Any = served.channel.stream_stream(f"/{SERVICE}/Echo", None, Piece.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [each async for each in echo(wrong())]

    info = details(caught.value)[1]
    assert (info.reason, info.metadata["outcome"]) == ("INVALID_INPUT", "NOT_STARTED")


async def test_a_piece_over_the_limit_ends_the_stream() -> None:
    """The limit is that of one message, whatever the stream holds in all."""
    async with serving(max_request_bytes=1 << 16) as served:
        uploading(served)
        echo: Any = served.channel.stream_stream(f"/{SERVICE}/Echo", None, Piece.FromString)
        call = echo(pieces(bytes(1 << 15), bytes(1 << 15), bytes(1 << 16)))
        answers = [len((await call.read()).data) for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()

    info = details(caught.value)[1]
    assert answers == [1 << 15, 1 << 15]
    assert (info.reason, info.metadata["outcome"]) == ("REQUEST_TOO_LARGE", "MAY_HAVE_RUN")
