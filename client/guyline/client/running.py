"""What goes in and out of a command while it is run to its end."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress

from guyline.client.completed import Collected
from guyline.client.errors import AgentUnreachable, GuylineError, InputClosed
from guyline.client.process import AsyncProcess
from guyline.client.values import Bytes, Chunk

OutputCallback = Callable[[Chunk], object]
"""Is called with each piece of output. If it gives an awaitable, that is awaited."""


async def collect(process: AsyncProcess, collected: Collected, on_output: OutputCallback | None) -> None:
    """Takes the output to its end, and tells of it as it comes."""
    async with aclosing(process.output()) as chunks:
        async for chunk in chunks:
            collected.take(chunk)
            if on_output is not None and inspect.isawaitable(said := on_output(chunk)):
                await said


async def fed(process: AsyncProcess, data: Bytes | None, collecting: Coroutine[object, object, None]) -> bool:
    """Collects the output, and feeds the process meanwhile: neither waits for the other.

    Returns:
        Whether the process was given everything.
    """
    if data is None:
        await collecting
        return True
    feeding: asyncio.Task[None] | None = None
    try:
        async with asyncio.TaskGroup() as group:
            feeding = group.create_task(_feed(process, data))
            await collecting
            is_fed = feeding.done()
            feeding.cancel()
    except BaseExceptionGroup as failed:
        error: BaseException = failed.exceptions[0]
        if feeding is not None and not feeding.cancelled() and feeding.exception() is error:
            await _end(process, why=error)
        raise error from None
    return is_fed


async def _end(process: AsyncProcess, *, why: BaseException) -> None:
    """Ends what will not get the rest of its input. What another start was first to begin is that one's to feed, and an
    agent that did not come back has been waited for long enough.
    """
    if not process.attached and not isinstance(why, AgentUnreachable):
        with suppress(GuylineError):  # what the feeding met is told
            await process.cancel()


async def _feed(process: AsyncProcess, data: Bytes) -> None:
    try:
        await process.write(data, eof=True)
    except InputClosed:
        return  # it wants no more, as the left side of a pipeline is not told either
