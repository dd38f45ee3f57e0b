"""A stream's last message, sent together with its status.

gRPC for Python offers that for the one response of a unary call alone: of a stream, message and status are two writes,
each with a way through its threads and back, and they wake the client twice. So a method that always ends with a last
message is to gRPC one with a single response, before which it writes others: on the wire the two are the same.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)
Handler = TypeVar("Handler", bound=Callable[..., Any])

_MARK = "ends_with_last"


class Last:
    """A message that nothing follows."""

    __slots__ = ("message",)

    def __init__(self, message: object) -> None:
        self.message = message


def last(message: M) -> M:
    """Marks what a handler yields as its last message. The type stays, since generated service types know no other."""
    return cast("M", Last(message))


def ends_with_last(handler: Handler) -> Handler:
    """Declares of a streaming handler that it fails or ends by yielding a ``last`` message, and in no other way."""
    setattr(handler, _MARK, True)
    return handler


def must_end_with_last(handler: Callable[..., Any]) -> bool:
    """Whether that was declared."""
    return getattr(handler, _MARK, False)
