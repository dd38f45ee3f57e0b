"""Turns whatever ended a call early into what its caller is told."""

import asyncio
import os

import grpc
import grpc.aio

from guyline.daemon.logging import get_logger
from guyline.errors import Defect, GuylineError
from guyline.rpc.call import Call
from guyline.rpc.caller import Context
from guyline.rpc.errors import DETAILS_KEY, FAMILIES, to_code, to_status
from guyline.rpc.metadata import REQUEST_ID

_log = get_logger(__name__)

# A caller's own clock runs out, and its word of that arrives, a little before ours does.
_RUNS_OUT_EARLY_SECONDS = 0.1


def to_failure(error: Exception) -> GuylineError:
    """The error itself if it is of a family the wire knows, else a defect; then the traceback goes to the log."""
    if isinstance(error, GuylineError) and isinstance(error, FAMILIES):
        return error
    incident = os.urandom(6).hex()
    _log.error("call failed by a defect", incident=incident, exc_info=error)
    return Defect(incident)


async def fail(call: Call, context: Context, failure: GuylineError, *, hop: str) -> None:
    """Ends the call with the failure's status.

    Raises:
        AbortError: Always: that is how grpc.aio ends a handler. CancelledError instead if the caller has gone.
    """
    status = to_status(failure, hop=hop)
    call.code, call.reason = to_code(failure), failure.reason
    trailers = ((DETAILS_KEY, status.SerializeToString()), (REQUEST_ID, call.request_id))
    try:
        await context.abort(call.code, status.message, trailers)
    except grpc.aio.InternalError as gone:
        call.code = end_of_cancelled(context)
        raise asyncio.CancelledError from gone


def end_of_cancelled(context: Context) -> grpc.StatusCode:
    """The code of a call that its caller gave up, or whose time has run out."""
    remaining: float | None = context.time_remaining()
    if remaining is not None and remaining <= _RUNS_OUT_EARLY_SECONDS:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
