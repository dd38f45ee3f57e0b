"""Ending a process by what names it, for handles and agents alike."""

from guyline.client.argument import to_timeout
from guyline.client.connection import Connection
from guyline.client.deadline import Deadline
from guyline.client.requests import to_cancel_request
from guyline.client.values import Canceled, Key
from guyline.client.wire import to_canceled


async def cancel(connection: Connection, target: str | Key, *, grace: float | None, wait: float | None) -> Canceled:
    """Ends what is named, or forbids it. Repeating that does no harm."""
    wait = to_timeout("wait", wait)
    request = to_cancel_request(target, grace=grace, wait=wait)
    deadline = None if wait is None else Deadline(wait, request.wait)
    response = await connection.ask(lambda line: line.processes.Cancel, request, repeatable=True, deadline=deadline)
    return to_canceled(response)
