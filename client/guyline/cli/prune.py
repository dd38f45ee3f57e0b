"""``guyline prune``."""

from argparse import Namespace
from asyncio import Semaphore, gather
from datetime import UTC, datetime, timedelta

from guyline.cli.dial import agent_of
from guyline.cli.say import say, say_json
from guyline.cli.text import to_size
from guyline.client.agent import AsyncAgent
from guyline.client.enums import ProcessState
from guyline.client.errors import ProcessNotFound, ProcessRunning
from guyline.client.values import ProcessInfo

_ENDED = (ProcessState.EXITED, ProcessState.UNKNOWN)
_AT_ONCE = 16
_HEAD_BYTES = 16 * 1024  # is kept of each process, whatever else is dropped


async def run(options: Namespace) -> int:
    """Has all processes forgotten that have ended, and says what that gained."""
    latest = datetime.now(UTC) - timedelta(seconds=options.older_than)
    async with agent_of(options) as agent:
        listing = await agent.list(labels=options.label, states=_ENDED, max_ended=None)
        removed = await _remove(agent, [each for each in listing.processes if _ended_before(each, latest)])
    kept_bytes = sum(map(_kept_bytes, removed))
    if options.json:
        say_json({"removed": [process.process_id for process in removed], "output_bytes": kept_bytes})
    else:
        processes = "1 process" if len(removed) == 1 else f"{len(removed)} processes"
        say(f"{processes} forgotten, with {to_size(kept_bytes)} of output")
    return 0


async def _remove(agent: AsyncAgent, processes: list[ProcessInfo]) -> list[ProcessInfo]:
    """Returns those that are gone now. Somebody else may be tidying up as well."""
    removed: list[ProcessInfo] = []
    turns = Semaphore(_AT_ONCE)

    async def remove(process: ProcessInfo) -> None:
        async with turns:
            try:
                await agent.remove(process.process_id)
            except (ProcessNotFound, ProcessRunning):
                return
            removed.append(process)

    await gather(*map(remove, processes))
    return removed


def _ended_before(process: ProcessInfo, latest: datetime) -> bool:
    if process.state not in _ENDED:  # an agent that does not know the filter lists all
        return False
    ended_at = process.exit.ended_at if process.exit is not None else None
    return (ended_at or process.started_at) <= latest


def _kept_bytes(process: ProcessInfo) -> int:
    return process.output_bytes - process.kept_from + min(process.kept_from, _HEAD_BYTES)
