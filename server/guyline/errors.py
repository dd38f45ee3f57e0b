"""Families of error. Every layer may raise them, so this module imports nothing of Guyline.

A family says what kind of failure it is and decides the code on the wire (``guyline.rpc.errors`` has the table); a
class below a family, next to the code that raises it, says the reason.
"""

from dataclasses import dataclass
from typing import ClassVar


class GuylineError(Exception):
    """Says what was wrong, with the value, and what to do. ``facts`` says the same to programs."""

    reason: ClassVar[str]
    """A name of ``guyline.error.v1.Reason`` without ``REASON_``: part of the API, whatever the class is called."""

    may_have_run: bool = False
    """Whether the call may have had an effect although it failed."""

    def __init__(self, message: str, **facts: str) -> None:
        super().__init__(message)
        self.facts = facts


@dataclass(frozen=True)
class Violation:
    """One thing wrong with a request: ``field`` is the path from the request's root, or ``metadata.KEY``."""

    field: str
    description: str


class InvalidInput(GuylineError):
    """The request itself is wrong, whatever the state of the daemon."""

    reason = "INVALID_INPUT"

    def __init__(self, *violations: Violation, **facts: str) -> None:
        assert violations, "says at least one thing that is wrong"
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations), **facts)
        self.violations = violations


class NotFound(GuylineError):
    """What the request names is not there, or not for this caller.

    ``resource_type`` and ``resource_name`` become a ResourceInfo.
    """

    resource_type: ClassVar[str]

    def __init__(self, message: str, *, resource_name: str, **facts: str) -> None:
        super().__init__(message, **facts)
        self.resource_name = resource_name


class Conflict(GuylineError):
    """Something else already has the name."""


class WrongState(GuylineError):
    """The thing exists, but is not in a state in which this can be done."""


class StoreChanged(WrongState):
    """The caller expects a daemon with another store: what it was told there is not known here."""

    reason = "STORE_CHANGED"

    def __init__(self, store_id: str, *, expected: str) -> None:
        super().__init__(
            f"the store here is {store_id}, and this is for {expected!r}; without guyline-store-id it is for anybody",
            store_id=store_id,
            expected_store_id=expected,
        )


class OutOfRange(GuylineError):
    """A position beyond the end."""


class Exhausted(GuylineError):
    """A limit of the daemon or the system is reached. ``retry_after`` seconds, if waiting helps, becomes RetryInfo."""

    retry_after: ClassVar[float | None] = None


class RequestTooLarge(Exhausted):
    """A request message over the limit."""

    reason = "REQUEST_TOO_LARGE"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a request of {size} bytes, and this daemon takes {limit}; send it in parts",
            bytes=str(size),
            max_request_bytes=str(limit),
        )


class TooManyCalls(Exhausted):
    """As many calls as a server takes at once are open."""

    reason = "TOO_MANY_CALLS"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} calls are open, and this daemon takes no more; end some", max_calls=str(limit))


class Unavailable(GuylineError):
    """The daemon cannot do it now; ``retry_after`` seconds becomes RetryInfo."""

    retry_after: ClassVar[float] = 0.1


class TimedOut(GuylineError):
    """Something that had to answer within a bound did not."""


class NotAuthenticated(GuylineError):
    """No credential, or not one that holds."""

    reason = "NOT_AUTHENTICATED"


class RightMissing(GuylineError):
    """The caller is known but may not do this."""

    reason = "RIGHT_MISSING"


class ShuttingDown(Unavailable):
    """The daemon ends, or makes way for its successor."""

    reason = "SHUTTING_DOWN"

    def __init__(self) -> None:
        super().__init__("the daemon is stopping or being replaced; call again in a moment")


class CutByShutdown(ShuttingDown):
    """As ``ShuttingDown``, of a call that was already under way."""

    may_have_run = True


class MethodUnknown(GuylineError):
    """Nothing is served under the name that was called."""

    reason = "METHOD_UNKNOWN"

    def __init__(self, rpc: str) -> None:
        super().__init__(f"there is no method {rpc!r} here; reflection lists those there are", rpc=rpc)


class Defect(GuylineError):
    """Something went wrong that nobody foresaw. What it was is in the daemon's log, under ``incident``."""

    reason = "DEFECT"
    may_have_run = True

    def __init__(self, incident: str) -> None:
        super().__init__(f"the daemon failed; its log says how under incident {incident}", incident=incident)
