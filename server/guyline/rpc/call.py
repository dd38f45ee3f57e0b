"""What is known of one call while it is under way: for its log line, metrics and traces."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from grpc import StatusCode

from guyline.daemon.caller import Caller
from guyline.rpc.metadata import Metadata


@dataclass(slots=True, eq=False)
class Call:
    """One call, from its first byte to its status."""

    rpc: str
    """``package.Service/Method`` as called; of an unknown method anything that fits into a path."""

    known: bool
    """Whether there is such a method: if not, ``rpc`` is a stranger's text and no label."""

    streams: bool
    """Whether its responses are a stream, which may go on for hours."""

    metadata: Metadata
    request_id: str
    caller: Caller | None = None
    """Unset until authentication has passed, and for methods that ask nobody."""

    code: StatusCode = StatusCode.OK
    reason: str = ""
    """A name of ``guyline.error.v1.Reason``, empty unless it failed with one."""

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    started: float = field(default_factory=time.perf_counter)
    """By ``time.perf_counter``."""

    seconds: float = 0.0
    """How long it took; known once it has ended."""


class CallObserver(Protocol):
    """Sees every call begin and end, in the context of the call's own task. It is quick and raises nothing."""

    def began(self, call: Call) -> None:
        """The call has come in; nothing of it is checked."""
        ...

    def admitted(self, call: Call) -> None:
        """The caller is known and may make it; the handler is about to run."""
        ...

    def ended(self, call: Call) -> None:
        """The call is over and its status sent."""
        ...
