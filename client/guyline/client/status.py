"""From a failed call to an exception: what the agent said, or what can be said when it did not get a word in."""

from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import grpc
import grpc.aio

from guyline.client.errors import (
    FAMILIES,
    REASONS,
    AgentUnreachable,
    Exhausted,
    GuylineError,
    Hop,
    Outcome,
    Unsupported,
    Violation,
)

if TYPE_CHECKING:
    from google.rpc.status_pb2 import Status

_DETAILS_KEY = "grpc-status-details-bin"

# What gRPC says of a connection that was not to be had, and what that means; the first that fits counts. Its words are
# no interface, so none of them is relied upon.
_TROUBLES = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not vouched for by anybody who is trusted here (ca_file)"),
    ("Hostname Verification Check failed", "its certificate is for another name"),
    ("handshake failed", "TLS could not be agreed upon"),
    ("Connection refused", "nobody listens there"),
    ("DNS resolution failed", "there is no such host"),
    ("Deadline Exceeded", "it does not answer"),
)


def to_error(failure: grpc.aio.AioRpcError, *, address: str) -> GuylineError:
    """What a failed call means, as the exception to raise."""
    status = _status(failure)
    if status is None:
        return _without_a_word(failure, address)
    details = _Details(status)
    kind = REASONS.get(details.reason or "") or FAMILIES.get(failure.code().name, GuylineError)
    return kind(
        status.message or failure.code().name,
        reason=details.reason,
        facts=details.facts,
        outcome=details.outcome,
        hop=details.hop,
        violations=details.violations,
        retry_after=details.retry_after,
    )


def _status(failure: grpc.aio.AioRpcError) -> "Status | None":
    packed = next((value for key, value in failure.trailing_metadata() or () if key == _DETAILS_KEY), None)
    if not isinstance(packed, bytes):
        return None
    # Imported here: only failures need these, and every start-up would pay for them.
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - see above
    from google.rpc.status_pb2 import Status  # noqa: PLC0415 - see above

    try:
        return Status.FromString(packed)
    except DecodeError:  # somebody between us and the agent cut it; the code still tells
        return None


class _Details:
    """What the details of a status say."""

    def __init__(self, status: "Status") -> None:
        from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # noqa: PLC0415 - only failures need it

        info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        for detail in status.details:
            for kind in (info, bad_request, retry):
                detail.Unpack(kind)
        self.facts = dict(info.metadata)
        self.reason = info.reason or None
        self.outcome = _member(Outcome, self.facts.pop("outcome", ""))
        self.hop = _member(Hop, self.facts.pop("hop", ""))
        self.violations = tuple(Violation(v.field, v.description) for v in bad_request.field_violations)
        self.retry_after = retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None


_E = TypeVar("_E", bound=StrEnum)


def _member(kind: type[_E], name: str) -> _E:
    return kind(name) if name in kind.__members__ else kind("UNSPECIFIED")


def _without_a_word(failure: grpc.aio.AioRpcError, address: str) -> GuylineError:
    """The agent explains every failure of its own, so this one arose on the way to it."""
    code = failure.code()
    facts = {"address": address, "code": code.name}
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unsupported(f"whoever listens at {address} does not know this call", facts=facts, hop=Hop.LINK)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Exhausted(f"a message was too large: {failure.details()}", facts=facts, hop=Hop.LINK)
    said = failure.details() or ""
    trouble = next((meaning for words, meaning in _TROUBLES if words in said), "the connection failed")
    return unreachable(address, trouble, facts=facts)


def unreachable(address: str, what: str, *, facts: dict[str, str] | None = None) -> AgentUnreachable:
    """Nobody answers at the address any more, or never did."""
    return AgentUnreachable(
        f"cannot reach the agent at {address}: {what}",
        facts=facts or {"address": address},
        outcome=Outcome.MAY_HAVE_RUN,
        hop=Hop.LINK,
    )
