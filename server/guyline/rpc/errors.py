"""What a failure looks like on the wire: the one place that knows status codes and error details.

A status travels twice: as code and message, and whole as a serialised ``google.rpc.Status`` in the trailing metadata.
Both together stay under 8 KiB, which is what peers accept; whatever is longer is cut here.
"""

import re

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from guyline.errors import (
    Conflict,
    Defect,
    Exhausted,
    GuylineError,
    InvalidInput,
    MethodUnknown,
    NotAuthenticated,
    NotFound,
    OutOfRange,
    RightMissing,
    TimedOut,
    Unavailable,
    WrongState,
)
from guyline.rpc.moments import to_duration

DETAILS_KEY = "grpc-status-details-bin"

CODES: dict[type[GuylineError], StatusCode] = {
    InvalidInput: StatusCode.INVALID_ARGUMENT,
    NotFound: StatusCode.NOT_FOUND,
    Conflict: StatusCode.ALREADY_EXISTS,
    WrongState: StatusCode.FAILED_PRECONDITION,
    OutOfRange: StatusCode.OUT_OF_RANGE,
    Exhausted: StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: StatusCode.UNAVAILABLE,
    TimedOut: StatusCode.DEADLINE_EXCEEDED,
    NotAuthenticated: StatusCode.UNAUTHENTICATED,
    RightMissing: StatusCode.PERMISSION_DENIED,
    MethodUnknown: StatusCode.UNIMPLEMENTED,
    Defect: StatusCode.INTERNAL,
}

FAMILIES = tuple(CODES)

# Metadata is accepted up to 8,192 bytes. The message goes percent-encoded (three bytes for one at worst: 2,304), the
# details in base64 (four for three: 5,464).
_LONGEST_MESSAGE_BYTES = 768
_LONGEST_DETAILS_BYTES = 4096

_LONGEST_FACT_BYTES = 256
_MOST_FACTS = 8
_MOST_VIOLATIONS = 20
_LONGEST_FIELD_BYTES = 128


def to_code(error: GuylineError) -> StatusCode:
    """The status code of the error's family."""
    return next(CODES[family] for family in type(error).__mro__ if family in CODES)


def to_status(error: GuylineError, *, hop: str = "AGENT") -> Status:
    """What the caller sees: the family gives the code, the class the reason, the instance the rest.

    Args:
        error: What went wrong.
        hop: Where: a name of ``guyline.error.v1.Hop`` without its prefix.
    """
    status = Status(code=to_code(error).value[0], message=_shortened(str(error), _LONGEST_MESSAGE_BYTES))
    for detail in (_error_info(error, hop), *_retry_info(error), *_resource_info(error)):
        _attach(status, detail)
    if isinstance(error, InvalidInput):
        _attach_violations(status, error)
    return status


def _error_info(error: GuylineError, hop: str) -> ErrorInfo:
    facts = list(error.facts.items())[:_MOST_FACTS]
    metadata = {key: _shortened(value, _LONGEST_FACT_BYTES) for key, value in facts}
    metadata["outcome"] = "MAY_HAVE_RUN" if error.may_have_run else "NOT_STARTED"
    metadata["hop"] = hop
    return ErrorInfo(domain="guyline", reason=error.reason, metadata=metadata)


def _retry_info(error: GuylineError) -> list[RetryInfo]:
    seconds = error.retry_after if isinstance(error, Unavailable | Exhausted) else None
    if seconds is None:
        return []
    return [RetryInfo(retry_delay=to_duration(seconds))]


def _resource_info(error: GuylineError) -> list[ResourceInfo]:
    if not isinstance(error, NotFound):
        return []
    name = _shortened(error.resource_name, _LONGEST_FACT_BYTES)
    return [ResourceInfo(resource_type=error.resource_type, resource_name=name)]


def _attach_violations(status: Status, error: InvalidInput) -> None:
    """Adds as many violations as there is room for, the first ones first; the rest the caller meets next time."""
    violations = [
        BadRequest.FieldViolation(
            field=_shortened(violation.field, _LONGEST_FIELD_BYTES),
            description=_shortened(violation.description, _LONGEST_FACT_BYTES),
        )
        for violation in error.violations[:_MOST_VIOLATIONS]
    ]
    room = _LONGEST_DETAILS_BYTES - status.ByteSize() - 64  # for the type's URL and the lengths around it
    used = 0
    bad_request = BadRequest()
    for violation in violations:
        used += violation.ByteSize() + 3
        if used > room:
            break
        bad_request.field_violations.append(violation)
    _attach(status, bad_request)


def _attach(status: Status, detail: Message) -> None:
    status.details.add().Pack(detail)


# Bytes of a path that are no UTF-8 are lone surrogates in a `str`, which the wire cannot carry.
_UNSENDABLE = re.compile("[\ud800-\udfff]")


def _shortened(text: str, most_bytes: int) -> str:
    text = _UNSENDABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - 3].decode(errors="ignore") + "…"
