"""Unary calls that only wait: to a server that ends they are like streams."""

from collections.abc import Callable
from typing import Any, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])

_MARK = "only_waits"


def only_waits(handler: Handler) -> Handler:
    """Declares of a unary handler that it may wait for long, and can be repeated as it is when it is cut meanwhile.

    A server that ends lets other unary calls finish. This one it cuts at once, with a time to come back: the caller
    goes on waiting with the next server, and nobody else waits for the end of this one.
    """
    setattr(handler, _MARK, True)
    return handler


def does_only_wait(handler: Callable[..., Any]) -> bool:
    """Whether that was declared."""
    return getattr(handler, _MARK, False)
