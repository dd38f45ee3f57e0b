"""Agents on TCP: TLS, and a token that is only shown to whom it is meant for."""

import datetime as dt
import ipaddress
import socket
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from guyline.client import AgentUnreachable, AsyncAgent, InvalidInput
from tests.client.scripted import scripted_agent_on_tcp

_HOST = "127.0.0.1"


def _certificate() -> tuple[bytes, bytes]:
    """A key and a certificate for 127.0.0.1 that vouches for itself, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agent")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def _credentials(key: bytes, certificate: bytes) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(key, certificate)])


@pytest.fixture
def identity(tmp_path: Path) -> tuple[bytes, bytes, Path, Path]:
    """Key and certificate, and the files that a client is given: who vouches, and the token."""
    key, certificate = _certificate()
    ca_file, token_file = tmp_path / "ca.pem", tmp_path / "token"
    ca_file.write_bytes(certificate)
    token_file.write_text("0123456789abcdef\n")
    return key, certificate, ca_file, token_file


async def test_the_token_goes_to_an_agent_that_is_vouched_for(identity: tuple[bytes, bytes, Path, Path]) -> None:
    """The content of the file, without the line's end."""
    key, certificate, ca_file, token_file = identity
    async with scripted_agent_on_tcp(_HOST, _credentials(key, certificate)) as scripted:
        async with AsyncAgent(scripted.address, ca_file=str(ca_file), token_file=str(token_file)) as agent:
            await agent.info()

        assert [each["authorization"] for each in scripted.greetings] == ["Bearer 0123456789abcdef"] * 2


async def test_the_token_does_not_go_to_an_impostor(identity: tuple[bytes, bytes, Path, Path]) -> None:
    """Whoever answers with another certificate gets nothing."""
    _, _, ca_file, token_file = identity
    async with scripted_agent_on_tcp(_HOST, _credentials(*_certificate())) as scripted:
        with pytest.raises(AgentUnreachable, match="not vouched for"):
            async with AsyncAgent(scripted.address, ca_file=ca_file, token_file=token_file, connect_timeout=0):
                pass

        assert scripted.greetings == []


async def test_a_certificate_for_another_name_is_said(identity: tuple[bytes, bytes, Path, Path]) -> None:
    """It is not the agent that is away, and nobody should look for it."""
    key, certificate, ca_file, token_file = identity
    async with scripted_agent_on_tcp(_HOST, _credentials(key, certificate)) as scripted:
        elsewhere = scripted.address.replace(_HOST, "localhost")
        with pytest.raises(AgentUnreachable, match="for another name"):
            async with AsyncAgent(elsewhere, ca_file=ca_file, token_file=token_file, connect_timeout=0):
                pass


async def test_a_port_on_which_nobody_listens_is_said(identity: tuple[bytes, bytes, Path, Path]) -> None:
    """And that is all that is wrong."""
    _, _, ca_file, token_file = identity
    with socket.socket() as closed:
        closed.bind((_HOST, 0))
        address = f"tcp://{_HOST}:{closed.getsockname()[1]}"
        with pytest.raises(AgentUnreachable, match="nobody listens"):
            async with AsyncAgent(address, ca_file=ca_file, token_file=token_file, connect_timeout=0):
                pass


async def test_a_file_without_a_token_is_said_by_name(tmp_path: Path) -> None:
    """And its content is not."""
    wrong = tmp_path / "wrong"
    wrong.write_text("two words")

    with pytest.raises(InvalidInput, match="token_file") as caught:
        async with AsyncAgent(f"tcp://{_HOST}:1", token_file=wrong):
            pass

    assert "two words" not in str(caught.value)
