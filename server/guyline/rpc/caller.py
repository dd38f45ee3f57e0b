"""The caller of the current call. Each call runs in a task of its own, so a context variable keeps them apart."""

from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc.aio

from guyline.daemon.caller import Caller

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]  # what every handler gets beside its request

_caller: ContextVar[Caller] = ContextVar("caller")


def caller_of(_context: Context) -> Caller:
    """Who makes this call. Asked in the handler, or in what it awaits: there is none anywhere else."""
    return _caller.get()


def set_caller(caller: Caller) -> None:
    """For the call chain alone: from here on, this task works for ``caller``."""
    _caller.set(caller)
