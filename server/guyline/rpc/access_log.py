"""One line in the log for every call, and one more at the start of a stream."""

import asyncio

from guyline.daemon.logging import bind_to_call, get_logger
from guyline.rpc.call import Call

_LONGEST_RPC = 200  # of an unknown method, which is whatever the peer made up


class AccessLog:
    """Writes the lines, and binds what all lines of a call carry."""

    def __init__(self) -> None:
        self._log = get_logger(__name__)

    def began(self, call: Call) -> None:
        """Binds what is known at once."""
        bind_to_call(request_id=call.request_id, rpc=call.rpc[:_LONGEST_RPC])

    def admitted(self, call: Call) -> None:
        """Binds who calls, and says that a stream begins: its other line may be hours away."""
        bind_to_call(**_who(call))
        if call.streams:
            # While the request is on its way through gRPC's threads: nobody waits for a log line.
            asyncio.get_running_loop().call_soon(self._log.info, "stream started")

    def ended(self, call: Call) -> None:
        """Writes the call's line."""
        self._log.info(
            "call ended",
            **_who(call),  # one who was known but not admitted is not bound
            code=call.code.name,
            **({"reason": call.reason} if call.reason else {}),
            seconds=round(call.seconds, 6),
            messages_in=call.messages_in,
            messages_out=call.messages_out,
            bytes_in=call.bytes_in,
            bytes_out=call.bytes_out,
        )


def _who(call: Call) -> dict[str, str]:
    if call.caller is None:
        return {}
    chat = {"chat_id": call.caller.chat_id} if call.caller.chat_id else {}
    return {"caller": call.caller.name, **chat}
