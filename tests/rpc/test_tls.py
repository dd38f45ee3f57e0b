"""TLS: the whole of what --listen tcp:// stands for, and certificates that are renewed under a running server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agent.v1.process_service_pb2_grpc import ProcessServiceStub, add_ProcessServiceServicer_to_server
from guyline.daemon.address import TcpAddress
from guyline.rpc.authentication import Authentication, LocalAuthentication
from guyline.rpc.server import CannotListen, RpcServer
from guyline.rpc.tls import Tls
from guyline.rpc.token import TokenAuthentication, TokenFile
from tests.rpc.certificates import self_signed
from tests.rpc.serving import Log, Puppet
from tests.support.clock import DEADLINE

TOKEN = "0123456789abcdef0123456789abcdef"


@asynccontextmanager
async def listening(tls: Tls, authentication: Authentication | None = None) -> AsyncIterator[RpcServer]:
    """A server on a port of its own."""
    server = RpcServer(TcpAddress("127.0.0.1", 0), authentication=authentication or LocalAuthentication(), tls=tls)
    server.add(add_ProcessServiceServicer_to_server, Puppet())
    async with asyncio.timeout(DEADLINE), server:
        yield server


async def ask(server: RpcServer, trusted: bytes, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """Calls on a new connection."""
    assert isinstance(server.address, TcpAddress)
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(trusted)
    async with grpc.aio.secure_channel(server.address.host_and_port, credentials, options) as channel:
        await ProcessServiceStub(channel).List(pb.ProcessServiceListRequest(), metadata=metadata)


def renew(tls: Tls) -> bytes:
    """Puts a new certificate in the place of the one before, and returns it."""
    self_signed(tls.certificate.parent)
    return tls.certificate.read_bytes()


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """A certificate and its key."""
    return Tls(*self_signed(tmp_path))


async def test_over_tls_the_token_is_asked_for(tls: Tls, tmp_path: Path) -> None:
    """Who has none is told so, and nothing else."""
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    trusted = tls.certificate.read_bytes()
    async with listening(tls, TokenAuthentication(TokenFile(token))) as server:
        await ask(server, trusted, (("authorization", f"Bearer {TOKEN}"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server, trusted)

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_renewed_certificate_is_used_for_the_next_connection(tls: Tls, log: Log) -> None:
    """Certificates live for weeks, and agents for months."""
    old = tls.certificate.read_bytes()
    async with listening(tls) as server:
        await ask(server, old)
        new = await asyncio.to_thread(renew, tls)
        await ask(server, new)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(server, old)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await log.find("certificate renewed", certificate=str(tls.certificate))


async def test_half_a_renewal_leaves_the_old_certificate_in_use(tls: Tls, log: Log) -> None:
    """Its two files are never replaced at the same moment; and a broken one must not lock everybody out."""
    old, old_key = tls.certificate.read_bytes(), tls.key.read_bytes()
    async with listening(tls) as server:
        new = await asyncio.to_thread(renew, tls)
        new_key = tls.key.read_bytes()
        tls.key.write_bytes(old_key)
        await ask(server, old)
        tls.key.unlink()
        await ask(server, old)
        tls.key.write_bytes(new_key)
        await ask(server, new)

    await log.find("certificate not usable; the one before stays in use")
    assert "PRIVATE KEY" not in log.text()


async def test_a_missing_certificate_is_a_clear_error(tmp_path: Path) -> None:
    """It names the file."""
    with pytest.raises(CannotListen, match=r"no\.pem"):
        async with listening(Tls(tmp_path / "no.pem", tmp_path / "no.key")):
            pass


async def test_a_key_that_does_not_fit_is_a_clear_error(tls: Tls, tmp_path: Path) -> None:
    """gRPC would only say that the address is not to be had."""
    (tmp_path / "other").mkdir()
    _, other_key = await asyncio.to_thread(self_signed, tmp_path / "other")
    with pytest.raises(CannotListen, match=r"KEY_VALUES_MISMATCH"):
        async with listening(Tls(tls.certificate, other_key)):
            pass


async def test_a_file_that_is_no_certificate_is_a_clear_error(tls: Tls) -> None:
    """Whatever it holds."""
    tls.certificate.write_text("no PEM")
    with pytest.raises(CannotListen, match="no certificate to serve with"):
        async with listening(tls):
            pass
