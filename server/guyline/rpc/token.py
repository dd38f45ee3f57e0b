"""The owner's token: whoever brings the content of a file may do everything."""

import asyncio
import hmac
import math
import os
import stat
import time
from pathlib import Path

from guyline.daemon.caller import Caller
from guyline.daemon.logging import get_logger
from guyline.errors import NotAuthenticated
from guyline.rpc.authentication import owner
from guyline.rpc.file_state import State, state_of
from guyline.rpc.metadata import AUTHORIZATION, Metadata

_SHORTEST_TOKEN_BYTES = 16
_LONGEST_TOKEN_BYTES = 4096

_FRESH_SECONDS = 1.0
_READ_SECONDS = 5.0


class TokenFileNotUsable(Exception):
    """The file cannot be read, can be read by others, or does not hold a token. Says which, and what to do."""


class TokenFile:
    """A file that holds a token. It is read again whenever it has changed, so a token is replaced without a restart.

    All here blocks.

    Raises:
        TokenFileNotUsable: On creation, if it does not hold a token now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: State | None = None
        self._token = b""
        self.token()

    def token(self) -> bytes:
        """The token as of now. Costs one ``fstat`` as long as the file stays the same.

        Raises:
            TokenFileNotUsable: If it does not hold one now.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as why:
            raise TokenFileNotUsable(f"cannot open the token file {str(self._path)!r}: {why.strerror}") from why
        try:
            return self._read(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        state = state_of(status)
        if state != self._state:
            self._demand_private(status)
            self._token = self._to_token(os.read(descriptor, _LONGEST_TOKEN_BYTES + 1))
            self._state = state
        return self._token

    def _demand_private(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise TokenFileNotUsable(f"the token file {str(self._path)!r} is no regular file")
        if stat.S_IMODE(status.st_mode) & 0o077:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            raise TokenFileNotUsable(f"others may use the token file {str(self._path)!r} (mode {mode}); chmod 600 it")
        if status.st_uid != os.geteuid():
            raise TokenFileNotUsable(f"the token file {str(self._path)!r} belongs to user {status.st_uid}; chown it")

    def _to_token(self, content: bytes) -> bytes:
        token = content.strip()
        if not _SHORTEST_TOKEN_BYTES <= len(token) <= _LONGEST_TOKEN_BYTES or len(token.split()) > 1:
            raise TokenFileNotUsable(
                f"the token file {str(self._path)!r} must hold one word of {_SHORTEST_TOKEN_BYTES} to "
                f"{_LONGEST_TOKEN_BYTES} bytes; `openssl rand -hex 32` makes one"
            )
        return token


class TokenAuthentication:
    """The holder of the token is the owner. A token that was replaced stops counting within a second."""

    def __init__(self, file: TokenFile) -> None:
        self._file = file
        self._token: bytes | None = None  # None: nobody can be let in
        self._looked_at = -math.inf
        self._log = get_logger(__name__)

    async def authenticate(self, metadata: Metadata, *, request_id: str) -> Caller:
        """The owner, if the call brings ``authorization: Bearer TOKEN``."""
        given = metadata.get(AUTHORIZATION)
        if given is None:
            raise NotAuthenticated("this listener wants `authorization: Bearer TOKEN` in the metadata")
        if time.monotonic() - self._looked_at > _FRESH_SECONDS:
            await self._look()
        if self._token is None:
            raise NotAuthenticated("no token can be checked at the moment; the daemon's log says why")
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise NotAuthenticated("the token does not hold; it may have been replaced")
        return owner(metadata, request_id=request_id)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                self._token = await asyncio.to_thread(self._file.token)
        except (TokenFileNotUsable, TimeoutError) as why:
            self._token = None
            self._log.error("token file not usable; nobody is let in", problem=str(why) or "reading it takes too long")
        self._looked_at = time.monotonic()
