"""The server: where it listens, and what every gRPC server is expected to answer."""

import asyncio
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub, add_ProcessServiceServicer_to_server
from guyline.daemon.address import TcpAddress, UnixAddress
from guyline.rpc.authentication import LocalAuthentication
from guyline.rpc.server import CannotListen, RpcServer
from guyline.rpc.socket_path import SocketNotUsable, make_way
from guyline.rpc.token import TokenAuthentication, TokenFile
from tests.rpc.serving import Log, Puppet, serving
from tests.support.clock import DEADLINE

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, since a socket's path holds 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="gl-") as name:
        yield Path(name)


async def test_the_socket_and_its_directory_are_private(log: Log) -> None:
    """Whoever reaches the socket is the owner."""
    async with serving() as served:
        assert isinstance(served.server.address, UnixAddress)
        path = served.server.address.path
        modes = await asyncio.to_thread(lambda: [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)])
        before = os.umask(0o022)
        os.umask(before)

    assert modes == [0o700, 0o600]
    assert before != 0o177
    assert log.lines == []


def bind_and_die(path: Path) -> None:
    """Leaves a socket behind, as a killed server does."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_a_dead_servers_socket_is_replaced(folder: Path) -> None:
    """A worker that was killed must not keep its successor from serving."""
    path = folder / "rpc.sock"
    bind_and_die(path)
    server = RpcServer(UnixAddress(path), authentication=LocalAuthentication())
    server.add(add_ProcessServiceServicer_to_server, Puppet())

    async with server, grpc.aio.insecure_channel(f"unix:{path}") as channel:
        answer = await ProcessServiceStub(channel).Start(pb.StartRequest())

    assert answer.process_id == "p"


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41", "a b", "ü", "\udcff", "[::1]"])
async def test_a_socket_may_have_any_name(folder: Path, name: str) -> None:
    """gRPC takes an address for a URI, in which some characters mean something. It would listen elsewhere."""
    path = folder / name
    server = RpcServer(UnixAddress(path), authentication=LocalAuthentication())

    async with server:
        assert await asyncio.to_thread(path.is_socket)


@pytest.mark.parametrize("length", [106, 107])
async def test_a_sockets_path_may_be_as_long_as_the_system_has_it(folder: Path, length: int) -> None:
    """Whatever gRPC makes of it counts too, and refused it by a name for something else."""
    path = folder / ("x" * (length - len(f"{folder}/")))
    server = RpcServer(UnixAddress(path), authentication=LocalAuthentication())

    async with server:
        assert await asyncio.to_thread(path.is_socket)


async def test_a_living_servers_socket_is_not_taken_over() -> None:
    """gRPC itself would do so without a word, and both would think that they serve."""
    async with serving() as served:
        with pytest.raises(SocketNotUsable, match="somebody serves"):
            async with RpcServer(served.server.address, authentication=LocalAuthentication()):
                pass
        await served.processes.List(pb.ProcessServiceListRequest())


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    """A typo in --listen must not delete somebody's work."""
    path = folder / "thesis.txt"
    path.write_text("years")

    with pytest.raises(SocketNotUsable, match="no socket of ours"):
        make_way(path)

    assert path.read_text() == "years"


def test_a_directory_that_others_write_to_is_refused(folder: Path) -> None:
    """They could put a socket of their own in its place."""
    folder.chmod(0o777)

    with pytest.raises(SocketNotUsable, match="chmod 700"):
        make_way(folder / "rpc.sock")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a directory away")
def test_a_directory_of_somebody_else_is_refused(folder: Path) -> None:
    """In a shared temporary directory anybody may be first to make ours."""
    os.chown(folder, 65534, 65534)

    with pytest.raises(SocketNotUsable, match="belongs to user 65534"):
        make_way(folder / "rpc.sock")


def write_private(path: Path, content: str) -> None:
    path.touch(0o600)
    path.write_text(content)


async def test_a_port_that_is_taken_is_a_clear_error() -> None:
    """With SO_REUSEPORT the two would share the callers."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(CannotListen, match="in use"):
            async with RpcServer(address, authentication=LocalAuthentication()):
                pass


async def test_health_is_asked_without_a_credential(folder: Path) -> None:
    """Load balancers and probes have none."""
    await asyncio.to_thread(write_private, folder / "token", TOKEN)
    async with serving(authentication=TokenAuthentication(TokenFile(folder / "token"))) as served:
        health = HealthStub(served.channel)
        all_of_it = await health.Check(HealthCheckRequest())
        one = await health.Check(HealthCheckRequest(service="guyline.agent.v1.ProcessService"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health.Check(HealthCheckRequest(service="no.Such"))

    assert all_of_it.status == one.status == HealthCheckResponse.SERVING
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_of_the_health_sees_the_server_drain() -> None:
    """So that callers go elsewhere before they are refused."""
    async with serving() as served, asyncio.timeout(DEADLINE):
        watch = HealthStub(served.channel).Watch(HealthCheckRequest())
        first = await watch.read()
        draining = asyncio.create_task(served.server.drain())
        second = await watch.read()
        end = await watch.read()
        await draining

    assert (first.status, second.status) == (HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING)
    assert end is grpc.aio.EOF


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(version: str) -> None:
    """grpcurl works without any .proto at hand."""
    async with serving() as served:
        reflect = served.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            ServerReflectionRequest.SerializeToString,
            ServerReflectionResponse.FromString,
        )
        call = reflect(questions(ServerReflectionRequest(list_services="")))
        [answer] = [each async for each in call]

    names = {service.name for service in answer.list_services_response.service}
    assert {"guyline.agent.v1.ProcessService", "grpc.health.v1.Health"} <= names


async def questions(*requests: ServerReflectionRequest) -> AsyncIterator[ServerReflectionRequest]:
    for each in requests:
        yield each


async def test_reflection_is_not_for_everybody(folder: Path) -> None:
    """What a daemon serves is nobody's business before they say who they are."""
    await asyncio.to_thread(write_private, folder / "token", TOKEN)
    async with serving(authentication=TokenAuthentication(TokenFile(folder / "token"))) as served:
        rpc = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.call(rpc)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_is_logged_at_its_start_and_at_its_end_with_what_went_through(log: Log) -> None:
    """Its other line may be hours away."""

    async def stream(_context: object) -> AsyncIterator[bytes]:
        yield b"12345"
        yield b"67890"

    async with serving(Puppet(stream=stream)) as served:
        messages = [each async for each in served.processes.Attach(pb.AttachRequest(process_id="p"))]
        start = await log.find("stream started")
        end = await log.find("call ended")

    assert start["request_id"] == end["request_id"]
    assert (end["messages_in"], end["messages_out"], end["code"]) == (1, 2, "OK")
    assert end["bytes_out"] == sum(message.ByteSize() for message in messages)
