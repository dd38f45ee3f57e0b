"""TLS on a listener, with a certificate that may be renewed while it is in use."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from guyline.daemon.logging import get_logger
from guyline.rpc.file_state import State, state_of

_log = get_logger(__name__)


class CertificateNotUsable(Exception):
    """The certificate or its key cannot be read, or the two do not fit. Says which, and why."""


@dataclass(frozen=True)
class Tls:
    """The certificate chain and its private key, as PEM files."""

    certificate: Path
    key: Path


class CertificateFiles:
    """Reads a certificate and its key, again whenever one of the files has changed; while they do not fit, as in the
    midst of a renewal, the ones before stay in use.

    All here blocks.

    Raises:
        CertificateNotUsable: On creation, if they cannot be used now.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._lock = threading.Lock()  # gRPC asks from threads of its own
        self._state = self._look()
        self._first = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """What gRPC serves with: it asks for a new certificate at each new connection."""
        renewed = cast("Callable[[], grpc.ServerCertificateConfiguration]", self.renewed)  # the stub forgets the None
        return grpc.dynamic_ssl_server_credentials(self._first, renewed)

    def renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificate, if it is another than was last returned. Raises nothing; costs two ``stat``."""
        with self._lock:
            try:
                state = self._look()
                if state == self._state:
                    return None
                configuration = self._read()
            except CertificateNotUsable as why:
                _log.warning("certificate not usable; the one before stays in use", problem=str(why))
                return None
            self._state = state  # as of before the reading: what changes meanwhile is read the next time
            _log.info("certificate renewed", certificate=str(self._tls.certificate))
            return configuration

    def _look(self) -> tuple[State, State]:
        try:
            return state_of(self._tls.certificate.stat()), state_of(self._tls.key.stat())
        except OSError as why:
            raise CertificateNotUsable(f"cannot read {why.filename!r} for TLS: {why.strerror}") from why

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = self._tls.certificate, self._tls.key
        try:
            # gRPC only says that something is wrong.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
            return grpc.ssl_server_certificate_configuration([(key.read_bytes(), certificate.read_bytes())])
        except ssl.SSLError as why:
            files = f"{str(certificate)!r} with the key {str(key)!r}"
            raise CertificateNotUsable(f"{files} is no certificate to serve with: {why.reason or why}") from why
        except OSError as why:
            raise CertificateNotUsable(f"cannot read {why.filename!r} for TLS: {why.strerror}") from why
