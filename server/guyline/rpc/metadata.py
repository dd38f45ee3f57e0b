"""Metadata of a call, as parsed: keys are lower-case, and none that Guyline reads may come twice."""

import os
import re
from collections.abc import Iterable

from guyline.errors import InvalidInput, Violation

REQUEST_ID = "x-request-id"
AUTHORIZATION = "authorization"
CHAT_ID = "coder-chat-id"
ANCESTOR_CHAT_IDS = "coder-ancestor-chat-ids"
STORE_ID = "guyline-store-id"

# Two different answers to "who asks", and whom, are none.
_ONCE = frozenset({AUTHORIZATION, CHAT_ID, ANCESTOR_CHAT_IDS, STORE_ID})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Metadata:
    """The keys and values that came with a call."""

    def __init__(self, pairs: Iterable[tuple[str, str | bytes]]) -> None:
        self._values: dict[str, str] = {}
        self._repeated: set[str] = set()
        for key, value in pairs:
            if key in self._values and key in _ONCE:
                self._repeated.add(key)
            if isinstance(value, str):
                self._values[key] = value

    def get(self, key: str) -> str | None:
        """The value of a text key, None if it did not come.

        Raises:
            InvalidInput: If the key may come once and came more often.
        """
        if key in self._repeated:
            raise InvalidInput(Violation(f"metadata.{key}", "came more than once; give it once"))
        return self._values.get(key)

    def items(self) -> Iterable[tuple[str, str]]:
        """All text keys with their values, each once: for what passes them on, such as tracing."""
        return self._values.items()

    def request_id(self) -> str:
        """The caller's name for the call if it is well-formed, else a new one."""
        given = self._values.get(REQUEST_ID)
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return os.urandom(8).hex()
